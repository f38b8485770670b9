/* SPDX-License-Identifier: MIT */
/*
 * report.c - tables and facts, as text or as one JSON object
 *
 * All of it is made by libsmartcols. That prints a table as an object `{"name": [rows]}` of its
 * own, and facts as a table of one row; the members are taken out of these objects and put
 * together into one. The whole is held in memory until its end, so that half a document is never
 * printed.
 */
#include "report.h"

#include <libsmartcols.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "command.h"

enum { FACTS_LABEL, FACTS_WORDS };

enum { FOLD_WIDTH = 24 };

static bool printing_facts(const struct report *report)
{
	return !report->columns;
}

void report_begin(struct report *report, bool json)
{
	memset(report, 0, sizeof(*report));
	report->json = json;
	report->empty = true;
	report->out = open_memstream(&report->text, &report->size);
	report->failed = !report->out;
}

/* `{"name": [ROWS]}`, as libsmartcols prints it, becomes a member of the report's object. */
static void member_print(struct report *report, const char *object)
{
	char open = printing_facts(report) ? '[' : '{', close = printing_facts(report) ? ']' : '}';
	const char *first = strchr(object, open), *last = strrchr(object, close);

	if (!first || !last || last < first) {
		report->failed = true;
		return;
	}
	for (first++; *first == ' ' || *first == '\n'; first++)
		;
	while (last > first && (last[-1] == ' ' || last[-1] == '\n'))
		last--;
	fputs(report->empty ? "{\n   " : ",\n   ", report->out);
	if (printing_facts(report))
		fprintf(report->out, "\"%s\": ", scols_table_get_name(report->table));
	while (first < last) {
		fputc(*first, report->out);
		/* facts lie one level of three spaces less deep than the row did */
		if (*first++ == '\n' && printing_facts(report))
			first += strncmp(first, "   ", 3) == 0 ? 3 : 0;
	}
	report->empty = false;
}

/* Print what was begun. */
static void part_end(struct report *report)
{
	char *object = NULL;

	if (!report->table)
		return;
	if (!report->json) {
		scols_table_set_stream(report->table, report->out);
		if (!scols_table_is_empty(report->table) || report->columns)
			report->failed |= scols_print_table(report->table) != 0;
	} else if (scols_print_table_to_string(report->table, &object) == 0 && object) {
		member_print(report, object);
	} else {
		report->failed = true;
	}
	free(object);
	scols_unref_table(report->table);
	report->table = NULL;
	report->line = NULL;
}

static void part_begin(struct report *report, const char *name, const struct column *columns)
{
	part_end(report);
	report->columns = columns;
	if (report->failed)
		return;
	report->table = scols_new_table();
	if (!report->table || scols_table_set_name(report->table, name) ||
	    scols_table_enable_json(report->table, report->json)) {
		report->failed = true;
		return;
	}
	if (!report->json)
		scols_table_set_column_separator(report->table, "  ");
}

static struct libscols_column *column_add(struct report *report, const char *name, int flags,
					  int json_type)
{
	struct libscols_column *column =
		scols_table_new_column(report->table, name ? name : "", 0, flags);

	if (!column || scols_column_set_json_type(column, json_type))
		report->failed = true;
	return column;
}

/* Long cells are folded for people only: who searches in the output wants a line for each row. */
static bool folds(const struct report *report)
{
	return !report->json && isatty(STDOUT_FILENO);
}

static bool colors(const struct report *report)
{
	const char *none = getenv("NO_COLOR"), *term = getenv("TERM");

	return folds(report) && !(none && none[0]) && term && strcmp(term, "dumb") != 0;
}

void report_color(struct report *report, size_t column, const char *color)
{
	if (report->failed || !colors(report))
		return;
	scols_table_enable_colors(report->table, 1);
	report->failed =
		scols_cell_set_color(scols_line_get_cell(report->line, column), color) != 0;
}

/* libsmartcols folds anywhere; have it do so where text_fold() has put a newline. */
static void column_fold(struct libscols_column *column)
{
	if (!column)
		return;
	scols_column_set_safechars(column, "\n");
	scols_column_set_wrapfunc(column, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL);
}

/* Put newlines for spaces, so that lines are as long as that if words allow. */
static void text_fold(char *text)
{
	char *begin = text, *space = NULL;

	for (char *at = text; *at; at++) {
		if (*at == ' ')
			space = at;
		if (at - begin >= FOLD_WIDTH && space) {
			*space = '\n';
			begin = space + 1;
			space = NULL;
		}
	}
}

void report_table(struct report *report, const char *name, const struct column *columns,
		  size_t count)
{
	static const int json_types[] = {
		[COLUMN_TEXT] = SCOLS_JSON_STRING,
		[COLUMN_NUMBER] = SCOLS_JSON_NUMBER,
		[COLUMN_BOOLEAN] = SCOLS_JSON_BOOLEAN,
	};

	part_begin(report, name, columns);
	for (size_t i = 0; i < count && !report->failed; i++) {
		const char *title = report->json ? columns[i].key : columns[i].heading;
		int flags = columns[i].kind == COLUMN_NUMBER ? SCOLS_FL_RIGHT : 0;

		if (columns[i].fit == FIT_CUT)
			flags |= SCOLS_FL_TRUNC;
		if (!title)
			flags |= SCOLS_FL_HIDDEN;
		if (columns[i].fit == FIT_FOLD && folds(report))
			column_fold(column_add(report, title, flags | SCOLS_FL_WRAP, 0));
		else
			column_add(report, title, flags, json_types[columns[i].kind]);
	}
}

void report_row(struct report *report)
{
	if (report->failed)
		return;
	report->line = scols_table_new_line(report->table, NULL);
	report->failed = !report->line;
}

static void cell_set(struct report *report, size_t column, const char *text)
{
	if (!report->failed)
		report->failed = scols_line_set_data(report->line, column, text) != 0;
}

void report_text(struct report *report, size_t column, const char *text)
{
	char *folded;

	if (report->columns[column].fit != FIT_FOLD || !folds(report)) {
		cell_set(report, column, text);
		return;
	}
	folded = strdup(text);
	if (folded) {
		text_fold(folded);
		cell_set(report, column, folded);
		free(folded);
	} else {
		report->failed = true;
	}
}

void report_number(struct report *report, size_t column, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	report_text(report, column, text);
}

void report_size(struct report *report, size_t column, uint64_t bytes)
{
	if (report->json)
		report_number(report, column, bytes);
	else
		report_text(report, column, size_text(bytes).text);
}

/* As text: a line for each fact. As JSON: one line, and a column for each member. */
void report_facts(struct report *report, const char *name)
{
	part_begin(report, name, NULL);
	if (report->failed)
		return;
	if (report->json) {
		report_row(report);
		return;
	}
	scols_table_enable_noheadings(report->table, 1);
	column_add(report, NULL, 0, SCOLS_JSON_STRING);
	column_add(report, NULL, 0, SCOLS_JSON_STRING);
}

void report_fact(struct report *report, const char *label, const char *format, ...)
{
	char words[512];
	va_list args;

	if (report->json)
		return;
	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	report_row(report);
	cell_set(report, FACTS_LABEL, label);
	cell_set(report, FACTS_WORDS, words);
}

static void member_add(struct report *report, const char *key, int json_type, const char *text)
{
	if (!report->json || report->failed)
		return;
	column_add(report, key, 0, json_type);
	if (!report->failed)
		cell_set(report, scols_table_get_ncols(report->table) - 1, text);
}

void report_member_text(struct report *report, const char *key, const char *text)
{
	member_add(report, key, SCOLS_JSON_STRING, text);
}

void report_member_number(struct report *report, const char *key, uint64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	member_add(report, key, SCOLS_JSON_NUMBER, text);
}

void report_members(struct report *report, const struct member *members, size_t n)
{
	for (size_t i = 0; i < n; i++)
		report_member_number(report, members[i].key, members[i].number);
}

void report_member_boolean(struct report *report, const char *key, bool value)
{
	member_add(report, key, SCOLS_JSON_BOOLEAN, value ? "1" : "0");
}

void report_member_null(struct report *report, const char *key)
{
	member_add(report, key, SCOLS_JSON_STRING, NULL);
}

void report_note(struct report *report, const char *format, ...)
{
	char words[512];
	va_list args;

	part_end(report);
	if (report->json || report->failed)
		return;
	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	text_clean(words);
	fprintf(report->out, "%s\n", words);
}

void report_space(struct report *report)
{
	part_end(report);
	if (!report->json && !report->failed)
		fputc('\n', report->out);
}

static void report_discard(struct report *report)
{
	scols_unref_table(report->table);
	if (report->out)
		fclose(report->out);
	free(report->text);
}

int report_end(struct report *report, int status)
{
	size_t done;

	if (status) {
		report_discard(report);
		return status;
	}
	part_end(report);
	if (report->json && report->out)
		fputs(report->empty ? "{}\n" : "\n}\n", report->out);
	if (report->out && (ferror(report->out) || fclose(report->out) != 0))
		report->failed = true;
	if (report->failed)
		status = fail("no memory for the report");
	else
		status = write_all(STDOUT_FILENO, "stdout", report->text, report->size, &done);
	free(report->text);
	return status;
}
