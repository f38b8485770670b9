/* SPDX-License-Identifier: MIT */
/*
 * text.h - text that is not ours, made fit to be shown; text with commas, taken apart
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

/*
 * Names of files, processes, devices and drives come from anybody, and messages with them reach root's terminal, which obeys
 * control characters. In a line of text those of ASCII and of Unicode (U+0080 to U+009F) become '?', as do bytes that are
 * no UTF-8; tabs and newlines become blanks.
 */
void text_clean(char *text);

/* End the field that begins at text; where the next begins, or NULL. ",," becomes ",". */
char *text_field_end(char *text);

#endif
