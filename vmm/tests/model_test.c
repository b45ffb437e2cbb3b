// SPDX-License-Identifier: MIT
/*
 * Tests of the model of KVM's memslots itself: kvm_model_selftest().
 */
#include "kvm_model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tap.h"

#define PAGE	KVM_LAYOUT_PAGE_SIZE
#define LOG	KVM_MEM_LOG_DIRTY_PAGES
#define RO	KVM_MEM_READONLY
#define HVA	UINT64_C(0x7f0000000000)

/* A call on slots that are described as text gives an errno and other text. */
struct test {
	const char *what;
	const char *before;
	int (*call)(struct kvm_model *model);
	int err;
	const char *after;
	unsigned long nr_swaps;
};

/* Slots as text: "number first-end", in pages, 'r' read-only, 'l' logs. */
static void print_slots(const struct kvm_model *model, char *text)
{
	for (size_t i = 0; i < model->nr_slots; i++) {
		const struct kvm_userspace_memory_region *region;

		region = &model->slots[i].region;
		text += sprintf(text, "%s%x %llu-%llu%s%s", i ? ", " : "",
				region->slot, region->guest_phys_addr / PAGE,
				(region->guest_phys_addr +
				 region->memory_size) / PAGE,
				region->flags & RO ? "r" : "",
				region->flags & LOG ? "l" : "");
	}
	*text = 0;
}

static int set(struct kvm_model *model, uint32_t slot, uint32_t flags,
	       uint64_t first, uint64_t nr)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = first * PAGE,
		.memory_size = nr * PAGE,
		.userspace_addr = HVA + first * PAGE,
	};

	return kvm_model_set_region(model, &region);
}

/* Every second page of a slot that logs is dirty. */
static void read_slots(struct kvm_model *model, const char *text)
{
	unsigned int slot, first, end;
	int length;

	while (sscanf(text, "%x %u-%u%n", &slot, &first, &end, &length) == 3) {
		uint32_t flags = 0;

		for (text += length; *text == 'r' || *text == 'l'; text++)
			flags |= *text == 'r' ? RO : LOG;
		set(model, slot, flags, first, end - first);
		text += strspn(text, ", ");
	}
	for (size_t i = 0; i < model->nr_slots; i++) {
		struct kvm_model_slot *s = &model->slots[i];
		uint64_t gfn = s->region.guest_phys_addr / PAGE;

		for (uint64_t page = 0;
		     s->dirty && page < s->region.memory_size / PAGE; page++)
			s->dirty[page] = (gfn + page) % 2;
	}
}

static int split(struct kvm_model *model, uint32_t slot, uint32_t a,
		 uint64_t a_page, uint32_t b, uint64_t b_page)
{
	struct kvm_memslot_cut cuts[] = {
		{ .offset = a_page * PAGE, .slot = a },
		{ .offset = b_page * PAGE, .slot = b },
	};

	return kvm_model_split(model, slot, cuts, b_page ? 2 : 1);
}

static int merge(struct kvm_model *model, uint32_t slot, uint32_t a,
		 uint32_t b)
{
	uint32_t slots[] = { a, b };

	return kvm_model_merge(model, slot, slots, b ? 2 : 1);
}

#define CALL(name, expression)						\
	static int name(struct kvm_model *m)				\
	{								\
		return expression;					\
	}

CALL(create, set(m, 1, LOG | RO, 4, 2))
CALL(create_bad_flags, set(m, 1, 1U << 2, 4, 2))
CALL(create_bad_space, set(m, 1U << 16, 0, 4, 2))
CALL(create_bad_number, set(m, 32767, 0, 4, 2))
CALL(create_too_large, set(m, 1, 0, 4, UINT64_C(1) << 31))
CALL(delete, set(m, 2, 0, 0, 0))
CALL(delete_other, set(m, 3, 0, 0, 0))
CALL(flags, set(m, 2, LOG, 4, 4))
CALL(flags_off, set(m, 2, 0, 4, 4))
CALL(flags_readonly, set(m, 2, RO, 4, 4))
CALL(set_size, set(m, 2, 0, 4, 5))
CALL(set_start, set(m, 2, 0, 9, 4))
CALL(grow_6, kvm_model_grow(m, 2, 6 * PAGE))
CALL(grow_4, kvm_model_grow(m, 2, 4 * PAGE))
CALL(grow_unaligned, kvm_model_grow(m, 2, 6 * PAGE + 1))
CALL(grow_other, kvm_model_grow(m, 3, 6 * PAGE))
CALL(shrink_1, kvm_model_shrink(m, 2, PAGE, NULL))
CALL(shrink_0, kvm_model_shrink(m, 2, 0, NULL))
CALL(shrink_4, kvm_model_shrink(m, 2, 4 * PAGE, NULL))
CALL(split_3, split(m, 2, 7, 1, 8, 3))
CALL(split_order, split(m, 2, 7, 3, 8, 1))
CALL(split_end, split(m, 2, 7, 1, 8, 4))
CALL(split_twice, split(m, 2, 7, 1, 7, 3))
CALL(split_taken, split(m, 2, 2, 1, 0, 0))
CALL(split_space, split(m, 2, 0x10003, 1, 0, 0))
CALL(merge_3, merge(m, 2, 7, 8))
CALL(merge_self, merge(m, 2, 2, 0))
CALL(readonly, kvm_model_set_readonly(m, 2, 1))
CALL(readonly_2, kvm_model_set_readonly(m, 2, 2))

static int merge_other_hva(struct kvm_model *m)
{
	m->slots[1].region.userspace_addr += PAGE;
	return merge(m, 2, 7, 0);
}

static int split_too_many(struct kvm_model *m)
{
	m->max_pieces = 2;
	return split_3(m);
}

static int merge_too_many(struct kvm_model *m)
{
	m->max_pieces = 2;
	return merge_3(m);
}

static int split_missing(struct kvm_model *m)
{
	m->ops &= ~(1U << KVM_LAYOUT_SPLIT);
	return split_3(m);
}

static int fail(struct kvm_model *m)
{
	m->fail_call = m->nr_calls + 1;
	m->fail_errno = EINTR;
	return split_3(m);
}

#define DOES(s, b, c, a, n)						\
	{ .what = s, .before = b, .call = c, .after = a, .nr_swaps = n }
#define REFUSES(s, b, c, e)						\
	{ .what = s, .before = b, .call = c, .err = e }

static const struct test tests[] = {
	DOES("create", "", create, "1 4-6rl", 1),
	REFUSES("create over another", "2 5-7", create, -EEXIST),
	DOES("create beside others", "2 6-7, 3 3-4", create,
	     "3 3-4, 1 4-6rl, 2 6-7", 1),
	REFUSES("create with flags", "", create_bad_flags, -EINVAL),
	REFUSES("create elsewhere", "", create_bad_space, -EINVAL),
	REFUSES("create out of range", "", create_bad_number, -EINVAL),
	REFUSES("create too large", "", create_too_large, -EINVAL),
	DOES("delete", "2 4-8", delete, "", 2),
	REFUSES("delete what is not there", "2 4-8", delete_other, -EINVAL),
	DOES("flags on", "2 4-8", flags, "2 4-8l", 1),
	DOES("flags off", "2 4-8l", flags_off, "2 4-8", 1),
	DOES("flags as before", "2 4-8l", flags, "2 4-8l", 0),
	REFUSES("flags read-only", "2 4-8", flags_readonly, -EINVAL),
	REFUSES("set another size", "2 4-8", set_size, -EINVAL),
	REFUSES("set another start", "2 4-8", set_start, -EINVAL),
	DOES("grow", "2 4-8r, 3 10-11", grow_6, "2 4-10r, 3 10-11", 2),
	REFUSES("grow over another", "2 4-8, 3 9-10", grow_6, -EEXIST),
	REFUSES("grow by nothing", "2 4-8", grow_4, -EINVAL),
	REFUSES("grow by bytes", "2 4-8", grow_unaligned, -EINVAL),
	REFUSES("grow what is not there", "2 4-8", grow_other, -ENOENT),
	DOES("shrink", "2 4-8l", shrink_1, "2 4-5l", 2),
	DOES("shrink away", "2 4-8", shrink_0, "", 2),
	REFUSES("shrink by nothing", "2 4-8", shrink_4, -EINVAL),
	DOES("split", "2 4-8rl", split_3, "2 4-5rl, 7 5-7rl, 8 7-8rl", 1),
	REFUSES("split backwards", "2 4-8", split_order, -EINVAL),
	REFUSES("split at the end", "2 4-8", split_end, -EINVAL),
	REFUSES("split with a number twice", "2 4-8", split_twice, -EINVAL),
	REFUSES("split with a taken number", "2 4-8", split_taken, -EEXIST),
	REFUSES("split into another space", "2 4-8", split_space, -EINVAL),
	REFUSES("split into too many", "2 4-8", split_too_many, -E2BIG),
	REFUSES("split without the operation", "2 4-8", split_missing, -ENOTTY),
	DOES("merge", "2 4-5l, 7 5-7l, 8 7-8l", merge_3, "2 4-8l", 1),
	REFUSES("merge with a hole", "2 4-5, 7 6-7, 8 7-8", merge_3, -EINVAL),
	REFUSES("merge other flags", "2 4-5, 7 5-7l, 8 7-8", merge_3, -EINVAL),
	REFUSES("merge other memory", "2 4-5, 7 5-7", merge_other_hva, -EINVAL),
	REFUSES("merge with itself", "2 4-5", merge_self, -EINVAL),
	REFUSES("merge what is not there", "2 4-5, 7 5-7", merge_3, -ENOENT),
	REFUSES("merge too many", "2 4-5, 7 5-7, 8 7-8", merge_too_many,
		-E2BIG),
	DOES("read-only", "2 4-8l", readonly, "2 4-8rl", 1),
	DOES("read-only as before", "2 4-8r", readonly, "2 4-8r", 0),
	REFUSES("read-only 2", "2 4-8", readonly_2, -EINVAL),
	REFUSES("fail when told", "2 4-8", fail, -EINTR),
};

static void run(const struct test *test)
{
	struct kvm_model model;
	char text[200];
	bool holds;
	int err;

	kvm_model_init(&model, 0);
	read_slots(&model, test->before);
	model.nr_swaps = 0;
	err = test->call(&model);
	print_slots(&model, text);
	holds = err == test->err && model.nr_swaps == test->nr_swaps &&
		!strcmp(text, err ? test->before : test->after);
	if (!tap_ok(holds, "model: %s", test->what))
		tap_note("err %d, swaps %lu, slots '%s'", err, model.nr_swaps,
			 text);
	kvm_model_fini(&model);
}

/* The slots of text have the dirty bits that read_slots() gives. */
static bool bits_are_right(const struct kvm_model *model)
{
	for (size_t i = 0; i < model->nr_slots; i++) {
		struct kvm_model_slot *s = &model->slots[i];
		uint64_t gfn = s->region.guest_phys_addr / PAGE;

		for (uint64_t page = 0; page < s->region.memory_size / PAGE;
		     page++)
			if (s->dirty[page] != (gfn + page) % 2)
				return false;
	}
	return true;
}

static void test_bits(void)
{
	uint64_t bitmap = ~UINT64_C(0);
	struct kvm_model model;
	bool holds;

	kvm_model_init(&model, 0);
	read_slots(&model, "2 4-8l");
	holds = !split_3(&model) && bits_are_right(&model);
	holds = holds && !merge_3(&model) && bits_are_right(&model);
	tap_ok(holds, "model: dirty bits stay with their pages");

	holds = !kvm_model_shrink(&model, 2, PAGE, &bitmap) && bitmap == 5;
	tap_ok(holds, "model: the last dirty bits of a tail");

	holds = !kvm_model_grow(&model, 2, 3 * PAGE) &&
		!model.slots[0].dirty[1] && !model.slots[0].dirty[2];
	tap_ok(holds, "model: added pages are clean");

	holds = !set(&model, 2, 0, 4, 3) && !model.slots[0].dirty &&
		kvm_model_shrink(&model, 2, PAGE, &bitmap) == -EINVAL;
	tap_ok(holds, "model: no dirty bits of what does not log");
	kvm_model_fini(&model);
}

static void test_look(void)
{
	struct kvm_model_place place;
	struct kvm_model model;
	bool holds;

	kvm_model_init(&model, 0);
	read_slots(&model, "2 4-8r, 3 8-9");
	holds = kvm_model_look(&model, 5 * PAGE, 3 * PAGE, &place) &&
		place.there && place.slot == 2 && place.offset == PAGE &&
		place.flags == RO && place.hva == HVA + 5 * PAGE;
	holds = holds && kvm_model_look(&model, 0, 4 * PAGE, &place) &&
		!place.there;
	holds = holds && !kvm_model_look(&model, 0, 5 * PAGE, &place) &&
		!kvm_model_look(&model, 7 * PAGE, 2 * PAGE, &place);
	tap_ok(holds, "model: where addresses lead");
	kvm_model_fini(&model);
}

int kvm_model_selftest(void)
{
	int before = tap_failed();

	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		run(&tests[i]);
	test_bits();
	test_look();
	return tap_failed() - before;
}
