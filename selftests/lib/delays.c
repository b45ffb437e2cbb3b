// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"

#include "delays.h"
#include "host.h"

#define DELAYS		"/sys/module/kvm_memslot_ops/parameters/delay_ms"
#define MOST_DELAYS	16

unsigned int delays_nr(void)
{
	unsigned int nr = 1;
	char list[256], *at;

	if (host_read(DELAYS, list, sizeof(list)))
		return 0;
	for (at = list; (at = strchr(at, ',')); at++)
		nr++;
	return nr;
}

void delays_set(unsigned int phase, unsigned int ms)
{
	unsigned int nr = delays_nr(), i;
	char list[16 * MOST_DELAYS];
	size_t len = 0;

	TEST_ASSERT(phase < nr && nr <= MOST_DELAYS, "%u delays", nr);
	for (i = 0; i < nr; i++)
		len += snprintf(list + len, sizeof(list) - len, "%s%u",
				i ? "," : "", i == phase ? ms : 0);
	TEST_ASSERT_EQ(host_write(DELAYS, list), 0);
}

void delays_end(void)
{
	if (delays_nr())
		delays_set(0, 0);
}

static __attribute__((constructor)) void end_at_exit(void)
{
	atexit(delays_end);
}
