/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest must find at a page, as the host says and a vCPU reads it before
 * and after an access: an access that saw the same rule twice is held to it.
 */
#ifndef SELFTESTS_RULE_H
#define SELFTESTS_RULE_H

#include <linux/compiler.h>
#include <stdint.h>

/* What is wanted, 0 to 3, and above it a number that grows with each change. */
#define WANT_BITS	2
#define WANT(rule)	((rule) & ((1 << WANT_BITS) - 1))

static inline void set_rule(uint32_t *rule, uint32_t want)
{
	if (WANT(*rule) != want)
		WRITE_ONCE(*rule, ((*rule >> WANT_BITS) + 1) << WANT_BITS | want);
}

#endif
