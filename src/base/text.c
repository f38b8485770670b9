/* SPDX-License-Identifier: MIT */
/*
 * text.c - text that is not ours, made fit to be shown; text with commas, taken apart
 */
#include "base/text.h"

#include <stddef.h>

/* Bytes of the UTF-8 sequence (RFC 3629) that begins here and is no control character; 0: there is none. */
static unsigned int sequence_length(const unsigned char *at)
{
	unsigned int length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;

	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	for (unsigned int i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	/* encodings that are too long, surrogates, what lies behind U+10FFFF; and U+0080 to U+009F */
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f) ||
	    (at[0] == 0xc2 && at[1] < 0xa0))
		return 0;
	return length;
}

void text_clean(char *text)
{
	unsigned char *at = (unsigned char *)text;

	while (*at) {
		unsigned int length = *at >= 0x80 ? sequence_length(at) : 1;

		if (*at == '\t' || *at == '\n')
			*at = ' ';
		else if (!length || *at < 0x20 || *at == 0x7f)
			*at = '?';
		at += length ? length : 1;
	}
}

char *text_field_end(char *text)
{
	char *to = text;

	for (char *from = text;; from++) {
		if (from[0] == ',' && from[1] == ',') {
			from++;
		} else if (from[0] == ',' || from[0] == '\0') {
			char *next = from[0] ? from + 1 : NULL;

			*to = '\0';
			return next;
		}
		*to++ = *from;
	}
}
