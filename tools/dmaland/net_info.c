/* SPDX-License-Identifier: MIT */
/*
 * net_info.c - `dmaland net info`: a network card, and what its chip has counted
 */
#include <stdio.h>

#include "net_card.h"
#include "report.h"

static void report_counters(struct report *report, const struct dmaland_rtl8139cp_counters *c)
{
	report_fact(report, "sent", "%s; not sent: %llu, of these %u given up, %u too late",
		    frames_text(c->tx_ok).text, (unsigned long long)c->tx_errors, c->tx_aborted,
		    c->tx_underruns);
	report_fact(report, "collisions", "%u frames after one, %u after several",
		    c->tx_one_collision, c->tx_collisions);
	report_fact(report, "received",
		    "%s; %llu to its address, %llu to all, %u to groups; with errors: %u, "
		    "not aligned: %u",
		    frames_text(c->rx_ok).text, (unsigned long long)c->rx_unicast,
		    (unsigned long long)c->rx_broadcast, c->rx_multicast, c->rx_errors,
		    c->align_errors);
	report_fact(report, "missed", "%s, for which there was no room",
		    frames_text(c->rx_missed).text);
}

static void report_counter_members(struct report *report,
				   const struct dmaland_rtl8139cp_counters *c)
{
	const struct member members[] = {
		{"tx_ok", c->tx_ok},
		{"tx_errors", c->tx_errors},
		{"tx_one_collision", c->tx_one_collision},
		{"tx_collisions", c->tx_collisions},
		{"tx_aborted", c->tx_aborted},
		{"tx_underruns", c->tx_underruns},
		{"rx_ok", c->rx_ok},
		{"rx_errors", c->rx_errors},
		{"rx_missed", c->rx_missed},
		{"rx_align_errors", c->align_errors},
		{"rx_unicast", c->rx_unicast},
		{"rx_broadcast", c->rx_broadcast},
		{"rx_multicast", c->rx_multicast},
	};

	report_facts(report, "counters");
	report_members(report, members, sizeof(members) / sizeof(members[0]));
}

static int report_card(struct report *report, struct net_card *net)
{
	struct dmaland_rtl8139cp_counters counters;
	int link = dmaland_rtl8139cp_link(net->card);

	if (link < 0 || dmaland_rtl8139cp_get_counters(net->card, &counters))
		return fail_library(NULL);
	report_facts(report, "card");
	report_fact(report, "card", "%s", dmaland_name(net->dev));
	report_fact(report, "address", "%s", mac_text(net->mac).text);
	if (link)
		report_fact(report, "link", "%d Mbit/s", link);
	else
		report_fact(report, "link", "none");
	report_member_text(report, "name", dmaland_name(net->dev));
	report_member_text(report, "address", mac_text(net->mac).text);
	report_member_number(report, "link_mbits", (uint64_t)link);
	report_counters(report, &counters);
	if (report->json)
		report_counter_members(report, &counters);
	return STATUS_OK;
}

static int info_run(const struct arguments *arguments)
{
	struct report report;
	struct net_card net;
	int status = card_open(&net, arguments->operands[0], arguments, NULL);

	if (status)
		return status;
	report_begin(&report, arguments_have(arguments, 'J'));
	status = report_card(&report, &net);
	card_close(&net);
	return report_end(&report, status);
}

const struct command net_info_command = {
	.name = "net info",
	.summary = "a network card, and what it has counted",
	.options = "Jv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "The card's address and link, and what its chip has counted.\n\n"
		"      --json     as one JSON object\n"
		"  -v, --verbose  more messages on stderr\n\n"
		"More: man dmaland-net\n",
	.run = info_run,
};
