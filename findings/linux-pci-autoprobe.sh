#!/bin/bash
# Linux 6.1: a PCI device that a rescan finds gets its driver, though /sys/bus/pci/drivers_autoprobe is 0.
#
# Guess: with 0 there, a device that is new stays without a driver until its address is written to drivers_probe; so a device
# can be taken away and found again for vfio-pci without the kernel's own driver ever touching it.
# Behaviour: the driver takes it at once. The bus' switch is asked where a device is registered; PCI registers a device before
# it has its resources, keeps drivers off until then, and then attaches them itself (pci_bus_add_device()), without asking.
# What keeps a driver off is driver_override alone, which is a file of a device that is there already: so whoever wants a device
# that was found again has to take it from the kernel's driver, when that is done with it.
#
# Seen: Linux 6.1.0-56-amd64 (Debian 12) in QEMU 7.2.22, a serial port on PCI, whose driver is part of the kernel.
#
#   driver: serial
#   drivers_autoprobe: 0
#   after removal and rescan: serial
set -euo pipefail

image=linux-image-6.1.0-56-amd64 image_version=6.1.192-2 busybox_version=1:1.35.0-4+deb12u1+b1
qemu_version=1:7.2+dfsg-7+deb12u18+b3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# All of it from no package installed, in a folder of its own
mkdir -p archives/partial tree
: >status
apt-get -qq -o Dir::Cache::archives="$work/archives" -o Dir::State::status="$work/status" -o Debug::NoLocking=1 \
	--no-install-recommends --download-only --yes --allow-downgrades install "$image=$image_version" "busybox-static=$busybox_version" \
	"qemu-system-x86=$qemu_version" >apt 2>&1 ||
	{ tail -n 3 apt && echo "$image $image_version or QEMU $qemu_version cannot be had (any more)" && exit 69; }
for package in archives/*.deb; do
	dpkg -x "$package" tree
done
libraries=tree/lib/x86_64-linux-gnu:tree/usr/lib/x86_64-linux-gnu
libraries+=:$(find tree/usr/lib/x86_64-linux-gnu -mindepth 1 -maxdepth 1 -type d | paste -sd :)

mkdir -p initramfs/{bin,sys,proc}
cp tree/bin/busybox initramfs/bin
cat >initramfs/init <<'END'
#!/bin/busybox sh
busybox mount -t sysfs sys /sys
device=/sys/bus/pci/devices/0000:00:05.0
driver() { busybox basename "$(busybox readlink $device/driver)"; }
echo "driver: $(driver)"
echo 0 >/sys/bus/pci/drivers_autoprobe
echo "drivers_autoprobe: $(busybox cat /sys/bus/pci/drivers_autoprobe)"
echo 1 >$device/remove
[ ! -e $device ] || echo "it is still there"
echo 1 >/sys/bus/pci/rescan
echo "after removal and rescan: $(driver)"
busybox poweroff -f
END
chmod +x initramfs/init
(cd initramfs && find . | ../tree/bin/busybox cpio -o -H newc >../initramfs.cpio 2>/dev/null)

QEMU_MODULE_DIR=tree/usr/lib/x86_64-linux-gnu/qemu timeout 120 tree/lib64/ld-linux-x86-64.so.2 --library-path "$libraries" \
	tree/usr/bin/qemu-system-x86_64 -L tree/usr/share/qemu -L tree/usr/share/seabios -machine q35 -accel tcg -m 512 -nodefaults \
	-display none -no-reboot -serial stdio -device pci-serial,addr=05.0 -kernel "tree/boot/vmlinuz-${image#linux-image-}" \
	-initrd initramfs.cpio -append "console=ttyS0 quiet loglevel=1" </dev/null | tr -d '\r' | grep -aE '^(driver|drivers_autoprobe|after|it is)' >said || true
cat said
diff said - <<END
driver: serial
drivers_autoprobe: 0
after removal and rescan: serial
END
