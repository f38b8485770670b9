/* SPDX-License-Identifier: MIT */
/*
 * cards_processes.c - two processes, each with a card in a QEMU of its own
 */
#include "cards.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * Send n frames and take n, at the same pace as the other does: with at most 32 more sent than received the ring of neither can be
 * full. False, with a word on stderr, at the first frame that is not the next one, whole.
 */
static bool frames_exchange(struct dmaland_rtl8139cp *card, uint32_t n)
{
	struct dmaland_packet *packets[BURST];
	uint32_t sent = 0, received = 0, number;
	time_t begun = time(NULL);

	while (sent < n || received < n || dmaland_rtl8139cp_clean(card)) {
		if (sent < n && sent < received + 32) {
			packets[0] = frame_make(0, sent, length_of(sent), 1 + sent % 4);
			if (dmaland_rtl8139cp_send(card, packets, 1) == 1)
				sent++;
			else
				dmaland_packet_free(packets[0]);
		}
		for (unsigned int i = 0, k = dmaland_rtl8139cp_receive(card, packets, BURST); i < k;
		     i++) {
			unsigned int length = length_of(received);
			bool good = packets[i]->len == (length < 60 ? 60 : length);

			memcpy(&number, packets[i]->data + NUMBER_AT, sizeof(number));
			good = good && number == received;
			for (unsigned int at = NUMBER_AT + sizeof(number); good && at < length;
			     at++)
				good = packets[i]->data[at] == content(number, at);
			dmaland_packet_free(packets[i]);
			if (!good) {
				fprintf(stderr, "frame %u is not as it was sent\n", received);
				return false;
			}
			received++;
		}
		if (time(NULL) - begun > (time_t)patience(200)) {
			fprintf(stderr, "of %u frames %u went and %u came\n", n, sent, received);
			return false;
		}
	}
	return true;
}

/* The end's QEMU goes on until the other has all: it may hold frames back. */
static bool end_exchanges(unsigned int me, const char *directory, uint32_t n, const int *turn)
{
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	char spec[256], word = 0;
	bool good;

	snprintf(spec, sizeof(spec),
		 "qemu:rtl8139,netdev=dgram,,local.type=unix,,local.path=%s/%u,,remote.type=unix,,"
		 "remote.path=%s/%u,mac=52:54:00:12:34:%02x",
		 directory, me, directory, !me, me);
	dev = dmaland_open(spec, NULL);
	card = dev ? dmaland_rtl8139cp_open(dev, NULL) : NULL;
	if (!card) {
		fprintf(stderr, "%s\n", dmaland_last_error());
		return false;
	}
	/* frame_make() sends from end 0 to end 1. */
	ends[0].card = card;
	memcpy(ends[0].mac, "\x52\x54\0\x12\x34", 5);
	memcpy(ends[1].mac, "\x52\x54\0\x12\x34", 5);
	ends[0].mac[5] = (unsigned char)me;
	ends[1].mac[5] = (unsigned char)!me;
	good = write(turn[1], "r", 1) == 1 && read(turn[0], &word, 1) == 1 &&
	       frames_exchange(card, n) && write(turn[1], "e", 1) == 1 &&
	       read(turn[0], &word, 1) == 1;
	dmaland_rtl8139cp_close(card);
	dmaland_close(dev);
	return good;
}

static void two_processes_exchange_frames(void **state)
{
	char directory[] = "/tmp/dmaland-cards-XXXXXX", path[64];
	int there[2], back[2], status;
	pid_t other;
	bool good;

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(pipe(there), 0);
	assert_int_equal(pipe(back), 0);
	other = fork();
	if (other == 0) {
		const int turn[2] = {there[0], back[1]};

		close(there[1]);
		close(back[0]);
		_exit(end_exchanges(1, directory, packets_asked / 2, turn) ? 0 : 1);
	}
	close(there[0]);
	close(back[1]);
	good = end_exchanges(0, directory, packets_asked / 2, (const int[]){back[0], there[1]});
	close(there[1]);
	close(back[0]);
	assert_int_equal(waitpid(other, &status, 0), other);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%d", directory, i);
		unlink(path);
	}
	rmdir(directory);
	assert_true(good);
	assert_int_equal(status, 0);
}

int run_process_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_processes_exchange_frames),
	};

	return cmocka_run_group_tests_name("two QEMUs", tests, NULL, NULL);
}
