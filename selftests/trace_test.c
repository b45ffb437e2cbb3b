// SPDX-License-Identifier: GPL-2.0
/*
 * An operation leaves a trace: it began, it swapped, it ended so.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "memslot_ops.h"
#include "trace.h"

FIXTURE(trace) {
	struct kvm_vm *vm;
	int dev;
};

FIXTURE_SETUP(trace)
{
	self->vm = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	REQUIRE(trace_start(), "no tracefs with the module's events");
	self->vm = vm_create_barebones();
	self->dev = memslot_ops_open(self->vm);
	TEST_ASSERT_EQ(slot_set(self->vm, 3, 0, GIGA_SIZE, PAGE_SIZE,
				host_map(HUGE_SIZE, HUGE_SIZE, 0,
					 HOST_PAGES_4K)), 0);
}

FIXTURE_TEARDOWN(trace)
{
	if (!self->vm)
		return;
	trace_stop();
	close(self->dev);
	kvm_vm_free(self->vm);
}

/* One line of the trace: an event, and what it says. */
struct expected {
	const char *event;
	const char *detail;
};

static void assert_trace(const struct expected *expected, int nr)
{
	char *trace = trace_read(), *lines = strdup(trace), *rest = lines, *line;
	int i;

	for (i = 0; i < nr; i++) {
		line = strsep(&rest, "\n");
		TEST_ASSERT(line && strstr(line, expected[i].event) &&
			    strstr(line, expected[i].detail),
			    "line %d is not \"%s ... %s\" in:\n%s", i,
			    expected[i].event, expected[i].detail, trace);
	}
	TEST_ASSERT(!rest || !*rest, "more than %d lines:\n%s", nr, trace);
	free(lines);
	free(trace);
}

TEST_F(trace, success)
{
	static const struct expected expected[] = {
		{ "memslot_op_begin: ", "grow slot 0x3" },
		{ "memslot_op_swap: ", "as_id 0 generation" },
		{ "memslot_op_swap: ", "as_id 0 generation" },
		{ "memslot_op_end: ", "grow slot 0x3 result 0 " },
		{ "memslot_op_begin: ", "grow slot 0x3" },
		{ "memslot_op_swap: ", "as_id 0 generation" },
		{ "memslot_op_swap: ", "as_id 0 generation" },
		{ "memslot_op_end: ", "grow slot 0x3 result 0 " },
	};

	TEST_ASSERT_EQ(slot_grow(self->dev, 3, 2 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(self->dev, 3, HUGE_SIZE), 0);
	assert_trace(expected, ARRAY_SIZE(expected));
}

TEST_F(trace, failure)
{
	static const struct expected expected[] = {
		{ "memslot_op_begin: ", "grow slot 0x3" },
		{ "memslot_op_end: ", "grow slot 0x3 result -22 " },
		{ "memslot_op_begin: ", "grow slot 0x4" },
		{ "memslot_op_end: ", "grow slot 0x4 result -2 " },
	};

	TEST_ASSERT_EQ(slot_grow(self->dev, 3, PAGE_SIZE), EINVAL);
	TEST_ASSERT_EQ(slot_grow(self->dev, 4, PAGE_SIZE), ENOENT);
	assert_trace(expected, ARRAY_SIZE(expected));
}

TEST_HARNESS_MAIN
