/* SPDX-License-Identifier: MIT */
/*
 * status.c - results in words
 *
 * Status codes of NVMe 2.0, 3.3.3.2.1 (generic, command specific, media and data integrity, path
 * related), of NVM 1.0, 3.1.2, and of ZNS 1.1, 3.1.2, as SCT << 8 | SC, ascending.
 */
#include "nvme_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number is part of the string, so that what is returned stays. */
#define STATUS(code, text)                                                                         \
	{                                                                                          \
		0x##code, text " (0x" #code ")"                                                    \
	}

static const struct status_text {
	int status;
	const char *text;
} texts[] = {
	STATUS(000, "Successful Completion"),
	STATUS(001, "Invalid Command Opcode"),
	STATUS(002, "Invalid Field in Command"),
	STATUS(003, "Command ID Conflict"),
	STATUS(004, "Data Transfer Error"),
	STATUS(005, "Commands Aborted due to Power Loss Notification"),
	STATUS(006, "Internal Error"),
	STATUS(007, "Command Abort Requested"),
	STATUS(008, "Command Aborted due to SQ Deletion"),
	STATUS(009, "Command Aborted due to Failed Fused Command"),
	STATUS(00a, "Command Aborted due to Missing Fused Command"),
	STATUS(00b, "Invalid Namespace or Format"),
	STATUS(00c, "Command Sequence Error"),
	STATUS(00d, "Invalid SGL Segment Descriptor"),
	STATUS(00e, "Invalid Number of SGL Descriptors"),
	STATUS(00f, "Data SGL Length Invalid"),
	STATUS(010, "Metadata SGL Length Invalid"),
	STATUS(011, "SGL Descriptor Type Invalid"),
	STATUS(012, "Invalid Use of Controller Memory Buffer"),
	STATUS(013, "PRP Offset Invalid"),
	STATUS(014, "Atomic Write Unit Exceeded"),
	STATUS(015, "Operation Denied"),
	STATUS(016, "SGL Offset Invalid"),
	STATUS(018, "Host Identifier Inconsistent Format"),
	STATUS(019, "Keep Alive Timer Expired"),
	STATUS(01a, "Keep Alive Timeout Invalid"),
	STATUS(01b, "Command Aborted due to Preempt and Abort"),
	STATUS(01c, "Sanitize Failed"),
	STATUS(01d, "Sanitize In Progress"),
	STATUS(01e, "SGL Data Block Granularity Invalid"),
	STATUS(01f, "Command Not Supported for Queue in CMB"),
	STATUS(020, "Namespace is Write Protected"),
	STATUS(021, "Command Interrupted"),
	STATUS(022, "Transient Transport Error"),
	STATUS(023, "Command Prohibited by Command and Feature Lockdown"),
	STATUS(024, "Admin Command Media Not Ready"),
	STATUS(080, "LBA out of Range"),
	STATUS(081, "Capacity Exceeded"),
	STATUS(082, "Namespace Not Ready"),
	STATUS(083, "Reservation Conflict"),
	STATUS(084, "Format In Progress"),
	STATUS(100, "Completion Queue Invalid"),
	STATUS(101, "Invalid Queue Identifier"),
	STATUS(102, "Invalid Queue Size"),
	STATUS(103, "Abort Command Limit Exceeded"),
	STATUS(105, "Asynchronous Event Request Limit Exceeded"),
	STATUS(106, "Invalid Firmware Slot"),
	STATUS(107, "Invalid Firmware Image"),
	STATUS(108, "Invalid Interrupt Vector"),
	STATUS(109, "Invalid Log Page"),
	STATUS(10a, "Invalid Format"),
	STATUS(10b, "Firmware Activation Requires Conventional Reset"),
	STATUS(10c, "Invalid Queue Deletion"),
	STATUS(10d, "Feature Identifier Not Saveable"),
	STATUS(10e, "Feature Not Changeable"),
	STATUS(10f, "Feature Not Namespace Specific"),
	STATUS(110, "Firmware Activation Requires NVM Subsystem Reset"),
	STATUS(111, "Firmware Activation Requires Controller Level Reset"),
	STATUS(112, "Firmware Activation Requires Maximum Time Violation"),
	STATUS(113, "Firmware Activation Prohibited"),
	STATUS(114, "Overlapping Range"),
	STATUS(115, "Namespace Insufficient Capacity"),
	STATUS(116, "Namespace Identifier Unavailable"),
	STATUS(118, "Namespace Already Attached"),
	STATUS(119, "Namespace Is Private"),
	STATUS(11a, "Namespace Not Attached"),
	STATUS(11b, "Thin Provisioning Not Supported"),
	STATUS(11c, "Controller List Invalid"),
	STATUS(11d, "Device Self-test In Progress"),
	STATUS(11e, "Boot Partition Write Prohibited"),
	STATUS(11f, "Invalid Controller Identifier"),
	STATUS(120, "Invalid Secondary Controller State"),
	STATUS(121, "Invalid Number of Controller Resources"),
	STATUS(122, "Invalid Resource Identifier"),
	STATUS(123, "Sanitize Prohibited While Persistent Memory Region is Enabled"),
	STATUS(124, "ANA Group Identifier Invalid"),
	STATUS(125, "ANA Attach Failed"),
	STATUS(126, "Insufficient Capacity"),
	STATUS(127, "Namespace Attachment Limit Exceeded"),
	STATUS(128, "Prohibition of Command Execution Not Supported"),
	STATUS(129, "I/O Command Set Not Supported"),
	STATUS(12a, "I/O Command Set Not Enabled"),
	STATUS(12b, "I/O Command Set Combination Rejected"),
	STATUS(12c, "Invalid I/O Command Set"),
	STATUS(12d, "Identifier Unavailable"),
	STATUS(180, "Conflicting Attributes"),
	STATUS(181, "Invalid Protection Information"),
	STATUS(182, "Attempted Write to Read Only Range"),
	STATUS(183, "Command Size Limit Exceeded"),
	STATUS(1b8, "Zone Boundary Error"),
	STATUS(1b9, "Zone Is Full"),
	STATUS(1ba, "Zone Is Read Only"),
	STATUS(1bb, "Zone Is Offline"),
	STATUS(1bc, "Zone Invalid Write"),
	STATUS(1bd, "Too Many Active Zones"),
	STATUS(1be, "Too Many Open Zones"),
	STATUS(1bf, "Invalid Zone State Transition"),
	STATUS(280, "Write Fault"),
	STATUS(281, "Unrecovered Read Error"),
	STATUS(282, "End-to-end Guard Check Error"),
	STATUS(283, "End-to-end Application Tag Check Error"),
	STATUS(284, "End-to-end Reference Tag Check Error"),
	STATUS(285, "Compare Failure"),
	STATUS(286, "Access Denied"),
	STATUS(287, "Deallocated or Unwritten Logical Block"),
	STATUS(288, "End-to-End Storage Tag Check Error"),
	STATUS(300, "Internal Path Error"),
	STATUS(301, "Asymmetric Access Persistent Loss"),
	STATUS(302, "Asymmetric Access Inaccessible"),
	STATUS(303, "Asymmetric Access Transition"),
	STATUS(360, "Controller Pathing Error"),
	STATUS(370, "Host Pathing Error"),
	STATUS(371, "Command Aborted By Host"),
};

static int compare_status(const void *key, const void *element)
{
	return *(const int *)key - ((const struct status_text *)element)->status;
}

/* Status code types: NVMe 2.0, 3.3.3.2.1 */
static const char *type_name(int status)
{
	switch (status >> 8 & 7) {
	case 0:
		return "generic";
	case 1:
		return "command specific";
	case 2:
		return "media and data integrity";
	case 3:
		return "path related";
	case 7:
		return "vendor specific";
	default:
		return "reserved";
	}
}

const char *dmaland_nvme_status_text(int status)
{
	static _Thread_local char unknown[64];
	const struct status_text *known;

	if (status < 0)
		return strerror(-status);
	known = bsearch(&status, texts, sizeof(texts) / sizeof(texts[0]), sizeof(texts[0]),
			compare_status);
	if (known)
		return known->text;
	snprintf(unknown, sizeof(unknown), "unknown %s status (0x%03x)", type_name(status), status);
	return unknown;
}
