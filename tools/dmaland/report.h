/* SPDX-License-Identifier: MIT */
/*
 * report.h - tables and facts, as text or as one JSON object
 *
 * As text, a report is its tables, facts (a label and words in each line) and notes in the order
 * they come. As JSON, it is one object with a member for each table (an array of objects) and for
 * each group of facts (an object). What a person reads and what a program reads is given apart:
 * report_fact() and report_note() are for the one, report_member_*() for the other.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct libscols_table;
struct libscols_line;

enum column_fit { FIT_NO, FIT_CUT, FIT_FOLD };
enum column_kind { COLUMN_TEXT, COLUMN_NUMBER, COLUMN_BOOLEAN };

/*
 * @heading: above the column; NULL: only in JSON
 * @key:     in JSON; NULL: only in text
 * @fit:     what may be done on a terminal: cut when it is too narrow, or fold at spaces
 */
struct column {
	const char *heading, *key;
	enum column_kind kind;
	enum column_fit fit;
};

/* @failed: something ran out of memory; report_end() says so. */
struct report {
	bool json, failed, empty;
	char *text;
	size_t size;
	FILE *out;
	const struct column *columns;
	struct libscols_table *table;
	struct libscols_line *line;
};

void report_begin(struct report *report, bool json);

/*
 * What was gathered goes to stdout; with a status that is none of success it is forgotten instead,
 * and that is returned. 0, or a status with the user told.
 */
int report_end(struct report *report, int status);

/* A table; then report_row() for each row and report_text() ... for its cells. */
void report_table(struct report *report, const char *name, const struct column *columns,
		  size_t count);
void report_row(struct report *report);
void report_text(struct report *report, size_t column, const char *text);
void report_number(struct report *report, size_t column, uint64_t number);
void report_size(struct report *report, size_t column, uint64_t bytes);

/* A cell that has its text, on a terminal; not with NO_COLOR (no-color.org) set. */
void report_color(struct report *report, size_t column, const char *color);

/* Facts, under a name in JSON. */
void report_facts(struct report *report, const char *name);
void report_fact(struct report *report, const char *label, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void report_member_text(struct report *report, const char *key, const char *text);
void report_member_number(struct report *report, const char *key, uint64_t number);

/* Several. */
struct member {
	const char *key;
	uint64_t number;
};

void report_members(struct report *report, const struct member *members, size_t n);
void report_member_boolean(struct report *report, const char *key, bool value);
void report_member_null(struct report *report, const char *key);

/* A line of text, or an empty one; left out in JSON. */
void report_space(struct report *report);
void report_note(struct report *report, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
