/* SPDX-License-Identifier: MIT */
#include "streaming_stand.h"

#include "test.h"

struct fake_place place;
char memory[1 << 20] __attribute__((aligned(65536)));

void open_kind(enum fake_kind kind, struct streaming_options options)
{
	log_clear();
	fake_streaming_open(&place, kind, &options);
	memset(memory, 0x11, sizeof(memory));
}

struct dmaland_streaming_stats stats(void)
{
	struct dmaland_streaming_stats now;

	streaming_get_stats(s, &now);
	return now;
}

void close_place(void)
{
	assert_int_equal(streaming_live(s), 0);
	fake_streaming_close(&place);
	log_clear();
}

void close_quietly(void)
{
	assert_string_equal(log_text(), "");
	close_place();
}
