/* SPDX-License-Identifier: MIT */
/*
 * main.c - the command `dmaland`: finds the command that is asked for and runs it
 */
#include "command.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command *const commands[] = {
	&info_command,	      &bind_command,	   &unbind_command,	 &nvme_identify_command,
	&nvme_log_command,    &nvme_watch_command, &nvme_read_command,	 &nvme_write_command,
	&nvme_verify_command, &nvme_test_command,  &nvme_zero_command,	 &nvme_discard_command,
	&nvme_format_command, &nvme_bench_command, &nvme_admin_command,	 &nvme_io_command,
	&pools_command,	      &net_info_command,   &net_receive_command, &net_send_command,
	&net_ping_command,    &net_echo_command,   &net_bench_command,
};

/* First words of commands that have two. */
static const char *const groups[] = {"nvme", "net"};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* All commands, or those of a group such as "nvme". */
static void print_help(FILE *to, const char *group)
{
	size_t length = group ? strlen(group) : 0;
	char page[32];

	snprintf(page, sizeof(page), "dmaland%s%s", group ? "-" : "", group ? group : "");
	fprintf(to, "Usage: dmaland %s%sCOMMAND [OPTION...] [OPERAND...]\n\n", group ? group : "",
		group ? " " : "");
	for (size_t i = 0; i < COMMANDS; i++)
		if (!group || (strncmp(commands[i]->name, group, length) == 0 &&
			       commands[i]->name[length] == ' '))
			fprintf(to, "  %-15s  %s\n", commands[i]->name, commands[i]->summary);
	fprintf(to, "\n%s", group ? "" : "      --version    the version of this command\n");
	fprintf(to,
		"  -h, --help       this text; after a COMMAND: about that\n"
		"\n"
		"A device is named by a spec: 0000:01:00.0, or qemu:nvme,drive=FILE.\n"
		"More: man %s, man 7 dmaland\n",
		page);
}

/* The command that the words ask for, and how many of them name it. */
static const struct command *command_find(char **words, int *used)
{
	for (size_t i = 0; i < COMMANDS; i++) {
		const char *name = commands[i]->name, *space = strchr(name, ' ');

		*used = space ? 2 : 1;
		if (!space && strcmp(words[0], name) == 0)
			return commands[i];
		if (space && strncmp(words[0], name, (size_t)(space - name)) == 0 &&
		    words[0][space - name] == '\0' && words[1] && strcmp(words[1], space + 1) == 0)
			return commands[i];
	}
	return NULL;
}

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static const char *group_find(const char *word)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (strcmp(groups[i], word) == 0)
			return groups[i];
	return NULL;
}

static int unknown_command(char **words)
{
	const char *group = group_find(words[0]);

	if (!group) {
		const char *kind = words[0][0] == '-' ? "option" : "command";

		return usage_error(NULL, "there is no %s '%s'", kind, words[0]);
	}
	if (!words[1]) {
		print_help(stderr, group);
		return STATUS_USAGE;
	}
	if (!is_help(words[1]))
		return usage_error(group, "there is no command '%s %s'", group, words[1]);
	print_help(stdout, group);
	return STATUS_OK;
}

static int run(int argc, char **argv)
{
	const struct command *command;
	struct arguments arguments;
	int used, status;

	if (argc < 2) {
		print_help(stderr, NULL);
		return STATUS_USAGE;
	}
	if (is_help(argv[1])) {
		print_help(stdout, NULL);
		return STATUS_OK;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("dmaland %s\n", DMALAND_VERSION);
		return STATUS_OK;
	}
	command = command_find(argv + 1, &used);
	if (!command)
		return unknown_command(argv + 1);
	for (int i = used + 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (!is_help(argv[i]))
			continue;
		printf("Usage: dmaland %s [OPTION...] %s\n\n%s", command->name, command->operands,
		       command->help);
		return STATUS_OK;
	}
	status = arguments_read(&arguments, command, argc - used, argv + used);
	return status ? status : command->run(&arguments);
}

/* Where the caller closed stdin, stdout or stderr, no file of ours may take its number. */
static void hold_standard_files(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
	hold_standard_files();
	signals_catch();
	return stdout_close(run(argc, argv));
}
