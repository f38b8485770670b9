#!/bin/bash
# QEMU 7.2: of some models that are taken out of a running machine DEVICE_DELETED never comes, though they are out.
#
# Guess: QMP's DEVICE_DELETED comes for each device that device_del names, once the guest has agreed and the device is gone; to wait for
# it, as management software does before it uses the id or the slot again, is the way to know.
# Behaviour: it is sent when the last reference to the device is dropped. Of qemu-xhci, nec-usb-xhci and intel-hda one never is,
# so that it is never sent of them: the slot is empty at once ("info pci"), the event stays away for good. Who waits for it waits
# until a time-out of his own. The slot, or query-pci, tells.
#
# Seen: QEMU 7.2.22 (Debian 12), machine "pc", a guest that never runs; the port of ACPI's hot-plug is written by the monitor.
#
#   edu: out of its slot, DEVICE_DELETED
#   nvme: out of its slot, DEVICE_DELETED
#   usb-ehci: out of its slot, DEVICE_DELETED
#   qemu-xhci: out of its slot, no event
#   nec-usb-xhci: out of its slot, no event
#   intel-hda: out of its slot, no event
set -euo pipefail

qemu_version=1:7.2+dfsg-7+deb12u18+b3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# All of it from no package installed, in a folder of its own
mkdir -p archives/partial tree
: >status
apt-get -qq -o Dir::Cache::archives="$work/archives" -o Dir::State::status="$work/status" -o Debug::NoLocking=1 \
	--no-install-recommends --download-only --yes --allow-downgrades install "qemu-system-x86=$qemu_version" >apt 2>&1 ||
	{ tail -n 3 apt && echo "QEMU $qemu_version cannot be had (any more)" && exit 69; }
for package in archives/*.deb; do
	dpkg -x "$package" tree
done
libraries=tree/lib/x86_64-linux-gnu:tree/usr/lib/x86_64-linux-gnu
libraries+=:$(find tree/usr/lib/x86_64-linux-gnu -mindepth 1 -maxdepth 1 -type d | paste -sd :)

# commands MODEL: plug it into slot 5, take it out, agree as the guest's ACPI code would, look
commands() {
	local serial=
	[ "$1" != nvme ] || serial=', "serial": "x"'
	echo '{"execute": "qmp_capabilities"}'
	echo "{\"execute\": \"device_add\", \"arguments\": {\"driver\": \"$1\", \"id\": \"it\", \"addr\": \"5\"$serial}}"
	echo '{"execute": "device_del", "arguments": {"id": "it"}}'
	echo '{"execute": "human-monitor-command", "arguments": {"command-line": "o /w 0xae08 0x20"}}'
	sleep 2 # long enough for an event that comes
	echo '{"execute": "human-monitor-command", "arguments": {"command-line": "info pci"}}'
	echo '{"execute": "quit"}'
}

for model in edu nvme usb-ehci qemu-xhci nec-usb-xhci intel-hda; do
	commands $model | QEMU_MODULE_DIR=tree/usr/lib/x86_64-linux-gnu/qemu timeout 60 tree/lib64/ld-linux-x86-64.so.2 \
		--library-path "$libraries" tree/usr/bin/qemu-system-x86_64 -L tree/usr/share/qemu -L tree/usr/share/seabios \
		-M pc -m 64 -nodefaults -display none -S -qmp stdio >answers 2>&1 || true
	grep -q 'device   1, function 0' answers || { cat answers && exit 1; }
	slot="still in its slot" event="no event"
	grep -q 'device   5, function 0' answers || slot="out of its slot"
	! grep -q 'DEVICE_DELETED.*"device": "it"' answers || event=DEVICE_DELETED
	echo "$model: $slot, $event"
done | tee said
diff said - <<END
edu: out of its slot, DEVICE_DELETED
nvme: out of its slot, DEVICE_DELETED
usb-ehci: out of its slot, DEVICE_DELETED
qemu-xhci: out of its slot, no event
nec-usb-xhci: out of its slot, no event
intel-hda: out of its slot, no event
END
