/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

#define TABLE_TITLE_WIDTH  32
#define TABLE_COLUMN_WIDTH 14 /* "1234.5   12.3x" */

void report_add(struct report *report, double value, const char *unit, const char *format, ...)
{
	struct report_row *row = &report->rows[report->count];
	va_list ap;

	if (isnan(value))
		return;
	if (report->count == REPORT_ROWS_MAX)
		bench_fail("more than %d rows: raise REPORT_ROWS_MAX", REPORT_ROWS_MAX);
	va_start(ap, format);
	vsnprintf(row->name, sizeof(row->name), format, ap);
	va_end(ap);
	row->value = value;
	row->unit = unit;
	report->count++;
}

/* ---- the machine ---- */

static void cpu_model_read(char *model, size_t size)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[512];

	snprintf(model, size, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		char *value = strchr(line, ':');

		if (!value || strncmp(line, "model name", strlen("model name")) != 0)
			continue;
		value += 1 + strspn(value + 1, " \t");
		value[strcspn(value, "\n")] = '\0';
		snprintf(model, size, "%s", value);
		break;
	}
	if (f)
		fclose(f);
}

static void json_string_print(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			printf("\\u%04x", (unsigned int)(unsigned char)*text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void machine_print_json(void)
{
	struct utsname system;
	char model[256];

	uname(&system);
	cpu_model_read(model, sizeof(model));
	printf("{\"cpu\": ");
	json_string_print(model);
	printf(", \"cores\": %ld, \"kernel\": ", sysconf(_SC_NPROCESSORS_ONLN));
	json_string_print(system.release);
	printf(", \"compiler\": ");
	json_string_print(COMPILER);
	printf(", \"flags\": ");
	json_string_print(BENCH_FLAGS);
	putchar('}');
}

static void json_print(const struct report *report)
{
	printf("{\"bench\": ");
	json_string_print(report->bench);
	printf(",\n \"machine\": ");
	machine_print_json();
	printf(",\n \"rows\": [");
	for (size_t i = 0; i < report->count; i++) {
		printf("%s\n  {\"name\": ", i ? "," : "");
		json_string_print(report->rows[i].name);
		printf(", \"value\": %.3f, \"unit\": ", report->rows[i].value);
		json_string_print(report->rows[i].unit);
		putchar('}');
	}
	printf("\n ]}\n");
}

bool report_is_json(const struct report *report, const struct bench_options *options)
{
	if (options->only && report->count == 0)
		bench_fail("no row that can be measured here begins with '%s'", options->only);
	if (options->json)
		json_print(report);
	return options->json;
}

void report_print_machine(void)
{
	struct utsname system;
	char model[256];

	uname(&system);
	cpu_model_read(model, sizeof(model));
	printf("%s, %ld CPUs, Linux %s, %s, %s\n", model, sysconf(_SC_NPROCESSORS_ONLN),
	       system.release, COMPILER, BENCH_FLAGS);
}

/* ---- tables ---- */

void table_begin(struct table *table, const char *title, const char *const *headings,
		 size_t columns)
{
	table->columns = columns < TABLE_COLUMNS_MAX ? columns : TABLE_COLUMNS_MAX;
	printf("%-*s", TABLE_TITLE_WIDTH, title);
	for (size_t i = 0; i < table->columns; i++) {
		int width = (int)strlen(headings[i]);

		table->width[i] = width == 0		       ? 0
				  : width > TABLE_COLUMN_WIDTH ? width
							       : TABLE_COLUMN_WIDTH;
		if (width)
			printf("   %*s", table->width[i], headings[i]);
	}
	putchar('\n');
}

void table_row(const struct table *table, const char *title, const char *const *cells)
{
	printf(" %-*s", TABLE_TITLE_WIDTH - 1, title);
	for (size_t i = 0; i < table->columns; i++)
		if (table->width[i])
			printf("   %*s", table->width[i], cells[i] ? cells[i] : "-");
	putchar('\n');
}

double report_value(const struct report *report, const char *name)
{
	for (size_t i = 0; i < report->count; i++)
		if (strcmp(report->rows[i].name, name) == 0)
			return report->rows[i].value;
	return NAN;
}

int benchmark_run(const struct benchmark *benchmark, int argc, char **argv)
{
	int status = benchmark->answer(argc, argv);

	if (status < 0)
		status = bench_options_read(benchmark->options, argc, argv, benchmark->about);
	if (status >= 0)
		return status;
	benchmark->report->bench = benchmark->name;
	benchmark->measure(benchmark->state);
	if (!report_is_json(benchmark->report, benchmark->options))
		benchmark->print(benchmark->state);
	return 0;
}
