// SPDX-License-Identifier: GPL-2.0
#include <stdatomic.h>

#include "kvm_util.h"

#include "tally.h"

static atomic_ulong operations, own_calls, promises, bytes;

void tally_operation(bool kvms_own)
{
	if (kvms_own)
		own_calls++;
	else
		operations++;
}

void tally_promises(uint64_t nr)
{
	promises += nr;
}

void tally_bytes(uint64_t nr)
{
	bytes += nr;
}

void tally_print(void)
{
	ksft_print_msg("tally: %lu operations, %lu own calls, %lu promises, %lu bytes\n",
		       operations, own_calls, promises, bytes);
}
