/* SPDX-License-Identifier: MIT */
/*
 * arguments.c - options and operands of all commands
 *
 * There is one table of options; a command says by their letters which it takes. Letters in upper
 * case are options that have only a long form.
 */
#include "command.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct option all_options[] = {
	{"namespace", required_argument, NULL, 'n'},
	{"start", required_argument, NULL, 's'},
	{"count", required_argument, NULL, 'c'},
	{"verbose", no_argument, NULL, 'v'},
	{"json", no_argument, NULL, 'J'},
	{"pad", no_argument, NULL, 'P'},
	{"seed", required_argument, NULL, 'S'},
	{"reads", required_argument, NULL, 'R'},
	{"size", required_argument, NULL, 'Z'},
	{"driver", required_argument, NULL, 'B'},
	{"dry-run", no_argument, NULL, 'D'},
	{"all", no_argument, NULL, 'A'},
	{"format", required_argument, NULL, 'F'},
	{"block-size", required_argument, NULL, 'K'},
	{"metadata", no_argument, NULL, 'M'},
	{"erase", no_argument, NULL, 'E'},
	{"crypto-erase", no_argument, NULL, 'C'},
	{"random", no_argument, NULL, 'N'},
	{"write", no_argument, NULL, 'W'},
	{"irq", no_argument, NULL, 'I'},
	{"depth", required_argument, NULL, 'Q'},
	{"time", required_argument, NULL, 'T'},
	{"requests", required_argument, NULL, 'U'},
	{"timeout", required_argument, NULL, 'O'},
	{"yes", no_argument, NULL, 'y'},
	{"destroy-data", no_argument, NULL, 'X'},
	{"opcode", required_argument, NULL, 'o'},
	{"namespace-id", required_argument, NULL, 'G'},
	{"cdw2", required_argument, NULL, '2'},
	{"cdw3", required_argument, NULL, '3'},
	{"cdw10", required_argument, NULL, '4'},
	{"cdw11", required_argument, NULL, '5'},
	{"cdw12", required_argument, NULL, '6'},
	{"cdw13", required_argument, NULL, '7'},
	{"cdw14", required_argument, NULL, '8'},
	{"cdw15", required_argument, NULL, '9'},
	{"data-len", required_argument, NULL, 'l'},
	{"input-file", required_argument, NULL, 'i'},
	{"raw-binary", no_argument, NULL, 'b'},
	{"read", no_argument, NULL, 'r'},
	{"write", no_argument, NULL, 'w'},
	{"timeout", required_argument, NULL, 't'},
	{"seconds", required_argument, NULL, 'L'},
	{"generate", required_argument, NULL, 'H'},
	{"ip", required_argument, NULL, 'Y'},
	{"interval", required_argument, NULL, 'V'},
	{"echo", required_argument, NULL, 'e'},
	{"udp", no_argument, NULL, 'u'},
};

/* getopt_long() answers with the letter; in its long form with this too, so that a wrong -J is not taken for --json. */
enum { LONG_FORM = 0x100 };

enum { OPTIONS = sizeof(all_options) / sizeof(all_options[0]) };

/* A number, 0x for hexadecimal. With @units K, M, G and T multiply by powers of 1024. */
static bool number_read(const char *text, bool units, uint64_t *value)
{
	static const char letters[] = "KMGT";
	const char *letter;
	unsigned int shift = 0;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
	if (errno || end == text)
		return false;
	if (units && *end && (letter = strchr(letters, *end))) {
		shift = 10 * (unsigned int)(letter - letters + 1);
		end++;
	}
	if (*end || *value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

/* Where a number goes, and what numbers it may be. */
static const struct number {
	int letter;
	bool units;
	size_t offset;
	uint64_t least, most;
} numbers[] = {
	{'n', false, offsetof(struct arguments, nsid), 1, UINT32_MAX - 1},
	{'s', false, offsetof(struct arguments, first), 0, UINT64_MAX},
	{'c', false, offsetof(struct arguments, blocks), 1, UINT64_MAX},
	{'S', false, offsetof(struct arguments, seed), 0, UINT64_MAX},
	{'R', false, offsetof(struct arguments, reads), 0, UINT64_MAX},
	{'Z', true, offsetof(struct arguments, size), 1, UINT32_MAX},
	{'F', false, offsetof(struct arguments, format), 0, 63},
	{'K', true, offsetof(struct arguments, block_size), 1, UINT32_MAX},
	{'Q', false, offsetof(struct arguments, depth), 1, UINT16_MAX},
	{'T', false, offsetof(struct arguments, seconds), 1, UINT32_MAX},
	{'U', false, offsetof(struct arguments, requests), 1, UINT32_MAX},
	{'O', false, offsetof(struct arguments, format_timeout), 1, UINT32_MAX / 1000},
	{'o', false, offsetof(struct arguments, opcode), 0, UINT8_MAX},
	{'G', false, offsetof(struct arguments, nsid), 0, UINT32_MAX},
	{'2', false, offsetof(struct arguments, cdw[0]), 0, UINT32_MAX},
	{'3', false, offsetof(struct arguments, cdw[1]), 0, UINT32_MAX},
	{'4', false, offsetof(struct arguments, cdw[2]), 0, UINT32_MAX},
	{'5', false, offsetof(struct arguments, cdw[3]), 0, UINT32_MAX},
	{'6', false, offsetof(struct arguments, cdw[4]), 0, UINT32_MAX},
	{'7', false, offsetof(struct arguments, cdw[5]), 0, UINT32_MAX},
	{'8', false, offsetof(struct arguments, cdw[6]), 0, UINT32_MAX},
	{'9', false, offsetof(struct arguments, cdw[7]), 0, UINT32_MAX},
	{'l', true, offsetof(struct arguments, data_len), 0, UINT32_MAX},
	{'t', false, offsetof(struct arguments, timeout), 1, UINT32_MAX},
	{'L', false, offsetof(struct arguments, seconds), 1, UINT32_MAX},
	{'H', false, offsetof(struct arguments, generate), 14,
	 1514}, /* a header; Ethernet's most */
	{'V', false, offsetof(struct arguments, interval), 0, UINT32_MAX},
};

/* A raw command is given any namespace's id: 0 is none, and all ones are all of them. */
static bool takes_any_nsid(const struct command *command)
{
	return strchr(command->options, 'G') != NULL;
}

static const struct number *number_find(const struct command *command, int letter)
{
	const struct number *number = numbers;

	if (letter == 'n' && takes_any_nsid(command))
		letter = 'G';
	while (number->letter != letter)
		number++;
	return number;
}

static int value_set(struct arguments *arguments, const struct command *command,
		     const struct option *option, const char *text)
{
	const struct number *number;
	uint64_t value;

	switch (option->val) {
	case 'B':
		arguments->driver = text;
		return STATUS_OK;
	case 'i':
		arguments->input = text;
		return STATUS_OK;
	case 'Y':
		arguments->ip = text;
		return STATUS_OK;
	case 'e':
		arguments->echo = text;
		return STATUS_OK;
	}
	if (strchr("nG", option->val) && strcmp(text, "all") == 0 &&
	    strpbrk(command->options, "FG")) {
		arguments->nsid = UINT32_MAX; /* as NVMe has it */
		return STATUS_OK;
	}
	number = number_find(command, option->val);
	if (!number_read(text, number->units, &value) || value < number->least ||
	    value > number->most) {
		char upto[32] = "";

		if (number->most != UINT64_MAX)
			snprintf(upto, sizeof(upto), " to %llu", (unsigned long long)number->most);
		return usage_error(command->name, "--%s is a number from %llu%s%s, not '%s'",
				   option->name, (unsigned long long)number->least, upto,
				   number->units ? ", with or without K, M or G" : "", text);
	}
	*(uint64_t *)((char *)arguments + number->offset) = value;
	return STATUS_OK;
}

static const struct option *option_find(int letter)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (all_options[i].val == letter)
			return &all_options[i];
	return NULL;
}

/* The options that the command takes, as getopt_long() wants them. */
static void options_select(const struct command *command, struct option *options, char *letters)
{
	*letters++ = ':'; /* tell a missing value from an unknown option */
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *option = &all_options[i];

		if (!strchr(command->options, option->val))
			continue;
		*options = *option;
		options++->val |= LONG_FORM;
		if (option->val < 'A' || option->val > 'Z') {
			*letters++ = (char)option->val;
			if (option->has_arg == required_argument)
				*letters++ = ':';
		}
	}
	*letters = '\0';
	memset(options, 0, sizeof(*options));
}

/*
 * getopt_long() has answered '?' or ':' about optopt: an option's long form, which is one of the command's; a letter, maybe in
 * the middle of a word such as -xv; or 0, about a whole WORD, --frob.
 */
static int option_refused(const struct command *command, int answer, const char *word)
{
	char letter[3] = {'-', (char)optopt, '\0'};

	if (answer == ':')
		return usage_error(command->name, "--%s wants a value",
				   option_find(optopt & ~LONG_FORM)->name);
	if (optopt & LONG_FORM)
		return usage_error(command->name, "--%s takes no value",
				   option_find(optopt & ~LONG_FORM)->name);
	return usage_error(command->name, "there is no option '%s'", optopt ? letter : word);
}

int arguments_read(struct arguments *arguments, const struct command *command, int argc,
		   char **argv)
{
	struct option options[OPTIONS + 1];
	char letters[2 * OPTIONS + 2];
	size_t given = 0;
	int letter, status;

	memset(arguments, 0, sizeof(*arguments));
	arguments->nsid = takes_any_nsid(command) ? 0 : 1;
	options_select(command, options, letters);
	opterr = 0;
	optind = 1;
	while ((letter = getopt_long(argc, argv, letters, options, NULL)) != -1) {
		if (letter == '?' || letter == ':')
			return option_refused(command, letter, argv[optind - 1]);
		letter &= ~LONG_FORM;
		if (!arguments_have(arguments, (char)letter))
			arguments->given[given++] = (char)letter;
		if (!optarg)
			continue;
		status = value_set(arguments, command, option_find(letter), optarg);
		if (status)
			return status;
	}
	arguments->operands = argv + optind;
	arguments->operand_count = argc - optind;
	if (arguments->operand_count < command->least)
		return usage_error(command->name, "'%s' wants %s", command->name,
				   command->operands);
	if (command->most >= 0 && arguments->operand_count > command->most)
		return usage_error(command->name, "'%s' wants %s, and there is also '%s'",
				   command->name, command->operands,
				   arguments->operands[command->most]);
	return STATUS_OK;
}

bool arguments_have(const struct arguments *arguments, char option)
{
	return strchr(arguments->given, option) != NULL;
}
