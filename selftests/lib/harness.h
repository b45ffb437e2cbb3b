/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What every test includes: the kernel's TAP harness, and what it lacks here.
 */
#ifndef SELFTESTS_HARNESS_H
#define SELFTESTS_HARNESS_H

#include "kselftest_harness.h"

/* Seconds. An emulated, instrumented kernel is slow; this only ends a hang. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 1200

/*
 * Only in the body of a TEST() or FIXTURE_SETUP(): SKIP() needs what the harness
 * passes there.  Each test is a process of its own.
 */
#define REQUIRE(cond, fmt, ...)						\
do {									\
	if (!(cond))							\
		SKIP(exit(KSFT_SKIP), fmt, ##__VA_ARGS__);		\
} while (0)

#define REQUIRE_MEMSLOT_OPS()						\
	REQUIRE(memslot_ops_present(), "the module is not loaded")

#define REQUIRE_OP(op)							\
do {									\
	REQUIRE_MEMSLOT_OPS();						\
	REQUIRE(memslot_ops_has(op), "the module lacks " #op);		\
} while (0)

#define REQUIRE_ALL_OPS()						\
do {									\
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_SPLIT);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);			\
} while (0)

#endif
