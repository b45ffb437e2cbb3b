// SPDX-License-Identifier: MIT
/*
 * What is not a plan: what the library finds on a host, its bookkeeping, what
 * it refuses, single steps, resizing, and entries of dirty rings.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm-layout.h"
#include "kvm_fake.h"
#include "kvm_model.h"
#include "tap.h"

#define PAGE		((uint64_t)KVM_LAYOUT_PAGE_SIZE)
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define RO		KVM_MEM_READONLY
#define HVA		UINT64_C(0x7f0000000000)

#define AS_ID		1
#define NUMBER(id)	(AS_ID << 16 | (id))

typedef struct kvm_userspace_memory_region region_t;

static struct kvm_model model;
static struct kvm_layout *layout;
static struct kvm_layout_host host;

static region_t region(uint32_t id, uint64_t first, uint64_t nr,
		       uint32_t flags)
{
	return (region_t) {
		.slot = NUMBER(id),
		.flags = flags,
		.guest_phys_addr = first * PAGE,
		.memory_size = nr * PAGE,
		.userspace_addr = HVA + first * PAGE,
	};
}

/* A host with the module, and a VM without slots. */
static void set_up(void)
{
	kvm_model_init(&model, AS_ID);
	kvm_fake_start(&model);
	layout = kvm_layout_new(AS_ID, 0, 100);
	if (!layout)
		abort();
}

static void tear_down(void)
{
	kvm_layout_free(layout);
	kvm_fake_stop();
	kvm_model_fini(&model);
}

/* The VMM creates a slot. */
static int create(const region_t *slot)
{
	int err = kvm_model_set_region(&model, slot);

	return err ? err : kvm_layout_add(layout, slot);
}

/* What is found on a host. */

static bool is_without(void)
{
	return !host.ops && host.dev_fd == -1 &&
	       host.vm_fd == kvm_fake.vm_fd;
}

static void test_host(void)
{
	int err, fd;

	set_up();
	model.max_pieces = 77;
	err = kvm_layout_host_open(kvm_fake.vm_fd, &host);
	fd = host.dev_fd;
	tap_ok(!err && host.vm_fd == kvm_fake.vm_fd && fd >= 0 &&
	       host.ops == KVM_LAYOUT_ALL_OPS && host.max_pieces == 77 &&
	       host.features == kvm_fake.features &&
	       host.nr_slots == model.nr_ids && host.nr_spaces == 2,
	       "host: all that the module offers is found");
	kvm_layout_host_close(&host);
	tap_ok(fcntl(fd, F_GETFD) < 0 && fcntl(kvm_fake.vm_fd, F_GETFD) >= 0,
	       "host: the device is closed, the VM is not");
	tear_down();
}

static void test_host_without(void)
{
	int err;

	set_up();
	kvm_fake.has_type = false;
	err = kvm_layout_host_open(kvm_fake.vm_fd, &host);
	tap_ok(!err && is_without() && host.nr_slots == model.nr_ids,
	       "host: without the module");
	kvm_layout_host_close(&host);
	tear_down();
}

/* A file that was opened is closed again, so that numbers are free again. */
static void test_host_stranger(const char *what, bool is_module,
			       uint64_t version)
{
	int err, before, after;

	set_up();
	kvm_fake.is_module = is_module;
	kvm_fake.version = version;
	before = dup(kvm_fake.vm_fd);
	close(before);
	err = kvm_layout_host_open(kvm_fake.vm_fd, &host);
	tap_ok(!err && is_without(), "host: %s", what);
	after = dup(kvm_fake.vm_fd);
	close(after);
	tap_ok(before == after, "host: %s, no file is left", what);
	kvm_layout_host_close(&host);
	tear_down();
}

static void test_host_fails(void)
{
	struct kvm_layout_host before;
	int err;

	set_up();
	kvm_fake.create_errno = EMFILE;
	memset(&host, 0x5a, sizeof(host));
	before = host;
	err = kvm_layout_host_open(kvm_fake.vm_fd, &host);
	tap_ok(err == -EMFILE, "host: the device cannot be made");
	tap_ok(!memcmp(&host, &before, sizeof(host)),
	       "host: nothing is set then");
	tear_down();
}

static void test_host_some(void)
{
	int err;

	set_up();
	model.ops = 1U << KVM_LAYOUT_GROW | 1U << KVM_LAYOUT_MERGE;
	err = kvm_layout_host_open(kvm_fake.vm_fd, &host);
	tap_ok(!err && host.ops == model.ops, "host: some operations");
	kvm_layout_host_close(&host);
	tear_down();
}

/* The bookkeeping. */

static bool is_refused(uint32_t as_id, uint32_t first, uint32_t nr)
{
	struct kvm_layout *l = kvm_layout_new(as_id, first, nr);

	kvm_layout_free(l);
	return !l;
}

static void test_new(void)
{
	struct kvm_layout *l = kvm_layout_new(0, 0, KVM_MODEL_MAX_IDS);
	size_t nr = 1;

	if (l)
		kvm_layout_slots(l, &nr);
	tap_ok(l && !nr, "layout: is empty at first");
	kvm_layout_free(l);
	kvm_layout_free(NULL);
	tap_ok(is_refused(0x10000, 0, 1), "layout: no address space of KVM's");
	tap_ok(is_refused(0, 70000, 1) && is_refused(0, 0, 70000) &&
	       is_refused(0, UINT32_MAX, 2) && is_refused(0, 30000, 30000) &&
	       is_refused(0, 0, KVM_MODEL_MAX_IDS + 1),
	       "layout: no numbers of KVM's");
}

static void test_add(void)
{
	const region_t a = region(5, 10, 4, LOG), b = region(2, 20, 1, RO);
	const region_t *slots;
	size_t nr;

	set_up();
	tap_ok(!kvm_layout_add(layout, &b) && !kvm_layout_add(layout, &a),
	       "layout: slots are added");
	slots = kvm_layout_slots(layout, &nr);
	tap_ok(nr == 2 && kvm_model_same_region(&slots[0], &a) &&
	       kvm_model_same_region(&slots[1], &b),
	       "layout: slots are in the order of addresses");
	slots = kvm_layout_find(layout, b.slot);
	tap_ok(slots && kvm_model_same_region(slots, &b) &&
	       !kvm_layout_find(layout, 5) &&
	       !kvm_layout_find(layout, NUMBER(3)),
	       "layout: slots are found by number");
	slots = kvm_layout_at(layout, 14 * PAGE - 1);
	tap_ok(slots && kvm_model_same_region(slots, &a) &&
	       !kvm_layout_at(layout, 14 * PAGE) &&
	       !kvm_layout_at(layout, 10 * PAGE - 1) &&
	       kvm_layout_at(layout, 20 * PAGE) &&
	       !kvm_layout_at(layout, UINT64_MAX),
	       "layout: slots are found by address");
	tap_ok(kvm_layout_remove(layout, NUMBER(7)) == -ENOENT &&
	       !kvm_layout_remove(layout, a.slot) &&
	       kvm_layout_remove(layout, a.slot) == -ENOENT &&
	       !kvm_layout_at(layout, 10 * PAGE) &&
	       kvm_layout_slots(layout, &nr) && nr == 1,
	       "layout: slots are removed");
	tear_down();
}

static void test_add_beside(void)
{
	const region_t a = region(0, 10, 4, 0), b = region(1, 14, 4, 0);
	const region_t c = region(2, 9, 1, 0), d = region(32766, 18, 1, 0);

	set_up();
	tap_ok(!kvm_layout_add(layout, &a) && !kvm_layout_add(layout, &b) &&
	       !kvm_layout_add(layout, &c) && !kvm_layout_add(layout, &d),
	       "layout: slots that touch, and a number out of the range");
	tear_down();
}

static bool add_fails(const region_t *slot, int err)
{
	size_t before, after;
	bool holds;

	kvm_layout_slots(layout, &before);
	holds = kvm_layout_add(layout, slot) == err;
	kvm_layout_slots(layout, &after);
	return holds && before == after;
}

struct bad {
	const char *what;
	region_t region;
	int err;
};

#define BAD(w, s, f, gpa, size, hva, e)					\
	{ w, { s, f, gpa, size, hva }, e }

/* Beside slot 3 from page 10 to 14. */
static const struct bad bad_adds[] = {
	BAD("empty", NUMBER(4), 0, 0, 0, HVA, -EINVAL),
	BAD("size", NUMBER(4), 0, 0, 0x1800, HVA, -EINVAL),
	BAD("guest address", NUMBER(4), 0, 0x800, 0x1000, HVA, -EINVAL),
	BAD("host address", NUMBER(4), 0, 0, 0x1000, HVA + 8, -EINVAL),
	BAD("another space", 4, 0, 0, 0x1000, HVA, -EINVAL),
	BAD("no number of KVM's", NUMBER(0x7fff), 0, 0, 0x1000, HVA, -EINVAL),
	BAD("too large", NUMBER(4), 0, 0x100000,
	    KVM_LAYOUT_MAX_SIZE + 0x1000, HVA, -EINVAL),
	BAD("guest addresses wrap", NUMBER(4), 0, ~UINT64_C(0xfff), 0x2000,
	    HVA, -EINVAL),
	BAD("guest addresses end at 2^64", NUMBER(4), 0, ~UINT64_C(0xfff),
	    0x1000, HVA, -EINVAL),
	BAD("host addresses wrap", NUMBER(4), 0, 0, 0x2000, ~UINT64_C(0xfff),
	    -EINVAL),
	BAD("number is taken", NUMBER(3), 0, 0, 0x1000, HVA, -EEXIST),
	BAD("overlaps", NUMBER(4), 0, 13 * 0x1000, 0x1000, HVA, -EEXIST),
	BAD("overlaps the start", NUMBER(4), 0, 9 * 0x1000, 0x2000, HVA,
	    -EEXIST),
	BAD("overlaps all", NUMBER(4), 0, 0, 0x20000, HVA, -EEXIST),
};

static void test_bad_adds(void)
{
	const region_t there = region(3, 10, 4, 0);

	for (size_t i = 0; i < sizeof(bad_adds) / sizeof(*bad_adds); i++) {
		const struct bad *bad = &bad_adds[i];

		set_up();
		kvm_layout_add(layout, &there);
		tap_ok(add_fails(&bad->region, bad->err),
		       "layout: refuses to add: %s", bad->what);
		tear_down();
	}
}

static void test_copy(void)
{
	const region_t a = region(5, 10, 4, LOG), b = region(2, 20, 1, RO);
	struct kvm_layout *copy;
	size_t nr, nr_copy;

	set_up();
	kvm_layout_add(layout, &a);
	copy = kvm_layout_copy(layout);
	kvm_layout_add(layout, &b);
	kvm_layout_slots(layout, &nr);
	kvm_layout_slots(copy, &nr_copy);
	tap_ok(nr == 2 && nr_copy == 1 && kvm_layout_find(copy, a.slot),
	       "layout: a copy is another one");
	kvm_layout_free(copy);
	tear_down();
}

/* What no plan is made of: 13. */

static int plan(const uint32_t *gone, size_t nr_gone, const region_t *come,
		size_t nr_come, enum kvm_layout_mode mode)
{
	struct kvm_layout_plan *mark = (void *)&model, *p = mark;
	int err;

	kvm_fake_host(&host);
	err = kvm_layout_plan(&host, layout, gone, nr_gone, come, nr_come,
			      mode, &p);
	kvm_layout_host_close(&host);
	if (!err)
		kvm_layout_plan_free(p);
	else if (p != mark)
		return 1;
	return err;
}

/* Slot 3 from page 10 to 14 goes, slot 4 from page 20 to 24 does not. */
static const struct bad bad_comes[] = {
	BAD("empty", 0, 0, 0, 0, HVA, -EINVAL),
	BAD("size", 0, 0, 0, 0x1800, HVA, -EINVAL),
	BAD("guest address", 0, 0, 0x800, 0x1000, HVA, -EINVAL),
	BAD("host address", 0, 0, 0, 0x1000, HVA + 8, -EINVAL),
	BAD("guest_memfd", 0, 1U << 2, 0, 0x1000, HVA, -EINVAL),
	BAD("other flags", 0, 1U << 31 | RO, 0, 0x1000, HVA, -EINVAL),
	BAD("too large", 0, 0, 0x100000, KVM_LAYOUT_MAX_SIZE + 0x1000, HVA,
	    -EINVAL),
	BAD("guest addresses wrap", 0, 0, ~UINT64_C(0xfff), 0x2000, HVA,
	    -EINVAL),
	BAD("guest addresses end at 2^64", 0, 0, ~UINT64_C(0xfff), 0x1000, HVA,
	    -EINVAL),
	BAD("host addresses wrap", 0, 0, 0, 0x2000, ~UINT64_C(0xfff), -EINVAL),
	BAD("overlaps a slot that stays", 0, 0, 0x17000, 0x1000, HVA, -EINVAL),
	BAD("covers a slot that stays", 0, 0, 0x10000, 0x10000, HVA, -EINVAL),
	BAD("overlaps another that comes", 0, 0, 0x31000, 0x2000, HVA,
	    -EINVAL),
	BAD("is another that comes", 0, 0, 0x30000, 0x2000, HVA + 0x30000,
	    -EINVAL),
	BAD("nothing wrong", 0, RO | LOG, 0xa000, 0x3000, HVA, 0),
	BAD("the largest", 0, 0, 0x100000, KVM_LAYOUT_MAX_SIZE, HVA, 0),
};

static void test_bad_comes(void)
{
	const region_t goes = region(3, 10, 4, 0), stays = region(4, 20, 4, 0);
	const uint32_t gone[] = { goes.slot };
	region_t come[] = { region(0, 0x30, 2, 0), goes };

	for (size_t i = 0; i < sizeof(bad_comes) / sizeof(*bad_comes); i++) {
		const struct bad *bad = &bad_comes[i];
		int a, b, c;

		set_up();
		create(&goes);
		create(&stays);
		come[1] = bad->region;
		a = plan(gone, 1, come, 2, KVM_LAYOUT_PARTITION);
		b = plan(gone, 1, come, 2, KVM_LAYOUT_MAP);
		model.ops = 0;
		c = plan(gone, 1, come, 2, KVM_LAYOUT_PARTITION);
		if (!tap_ok(a == bad->err && b == bad->err && c == bad->err,
			    "plan: what comes: %s", bad->what))
			tap_note("errors %d, %d, %d", a, b, c);
		tear_down();
	}
}

static void test_bad_gone(void)
{
	const region_t goes = region(3, 10, 4, 0);
	const uint32_t twice[] = { goes.slot, goes.slot };
	const uint32_t other[] = { goes.slot, NUMBER(9) };
	const uint32_t space[] = { 3 };
	region_t memfd = region(4, 20, 4, 1U << 2);
	int err;

	set_up();
	create(&goes);
	tap_ok(plan(other, 2, NULL, 0, KVM_LAYOUT_PARTITION) == -EINVAL,
	       "plan: what goes is not known");
	tap_ok(plan(space, 1, NULL, 0, KVM_LAYOUT_PARTITION) == -EINVAL,
	       "plan: what goes is of another space");
	err = plan(twice, 2, NULL, 0, KVM_LAYOUT_PARTITION);
	if (!tap_ok(err == -EINVAL, "plan: what goes is named twice"))
		tap_note("error %d", err);
	tap_ok(plan(twice, 1, NULL, 0, (enum kvm_layout_mode)7) == -EINVAL,
	       "plan: a mode that is not known");
	tap_ok(!plan(NULL, 0, NULL, 0, KVM_LAYOUT_PARTITION) &&
	       !plan(NULL, 0, NULL, 0, KVM_LAYOUT_MAP),
	       "plan: nothing goes and nothing comes");
	tap_ok(!kvm_layout_add(layout, &memfd) &&
	       plan(&memfd.slot, 1, NULL, 0, KVM_LAYOUT_PARTITION) ==
	       -EOPNOTSUPP &&
	       !plan(&goes.slot, 1, NULL, 0, KVM_LAYOUT_PARTITION),
	       "plan: what goes has flags that are not known");
	kvm_layout_plan_free(NULL);
	tear_down();
}

static void test_nospc(void)
{
	const region_t a = region(0, 10, 4, 0);
	const region_t come[] = { region(0, 10, 1, 0), region(0, 12, 2, 0) };
	int err;

	set_up();
	kvm_layout_free(layout);
	layout = kvm_layout_new(AS_ID, 0, 1);
	create(&a);
	err = plan(&a.slot, 1, come, 2, KVM_LAYOUT_PARTITION);
	tap_ok(err == -ENOSPC, "plan: too few numbers");
	kvm_layout_free(layout);
	layout = kvm_layout_new(AS_ID, 0, 3);
	kvm_layout_add(layout, &a);
	err = plan(&a.slot, 1, come, 2, KVM_LAYOUT_PARTITION);
	tap_ok(!err, "plan: just as many numbers as are needed");
	tear_down();
}

/* Single steps. */

static struct kvm_layout_plan *make_plan(const uint32_t *gone, size_t nr_gone,
					 const region_t *come, size_t nr_come)
{
	struct kvm_layout_plan *p;
	int err = kvm_layout_plan(&host, layout, gone, nr_gone, come, nr_come,
				  KVM_LAYOUT_PARTITION, &p);

	return err ? NULL : p;
}

static void test_step_call(void)
{
	const region_t a = region(3, 10, 70, LOG);
	const region_t come[] = { region(0, 10, 2, LOG | RO) };
	const struct kvm_layout_step *steps;
	struct kvm_layout_plan *p;
	uint64_t dirty[3] = { ~UINT64_C(0), ~UINT64_C(0), 7 };
	size_t nr;

	set_up();
	create(&a);
	kvm_fake_host(&host);
	p = make_plan(&a.slot, 1, come, 1);
	steps = kvm_layout_plan_steps(p, &nr);
	model.slots[0].dirty[5] = 1;
	model.slots[0].dirty[69] = 1;
	for (size_t i = 0; i < nr; i++) {
		bool tail = steps[i].flags & KVM_LAYOUT_DIRTY_TAIL;

		tap_ok(!kvm_layout_step_call(&host, &steps[i],
					     tail ? dirty : NULL) &&
		       !kvm_layout_step_done(layout, &steps[i]) &&
		       kvm_model_is(&model, layout), "step: call %zu", i);
	}
	tap_ok(dirty[0] == 1 << 3 && dirty[1] == 1 << 3 && dirty[2] == 7,
	       "step: the dirty bits of a tail, in whole words");
	kvm_layout_plan_free(p);
	kvm_layout_host_close(&host);
	tear_down();
}

static void test_step_fails(void)
{
	const region_t a = region(3, 10, 70, LOG);
	const region_t come[] = { region(0, 10, 2, LOG) };
	struct kvm_layout_plan *p;
	size_t nr;

	set_up();
	create(&a);
	kvm_fake_host(&host);
	p = make_plan(&a.slot, 1, come, 1);
	model.fail_call = model.nr_calls + 1;
	model.fail_errno = EBUSY;
	tap_ok(kvm_layout_step_call(&host, kvm_layout_plan_steps(p, &nr),
				    NULL) == -EBUSY &&
	       kvm_model_is(&model, layout), "step: a call that fails");
	tap_ok(!kvm_layout_step_call(&host, kvm_layout_plan_steps(p, &nr),
				     NULL) && !kvm_fake.bitmap_given,
	       "step: a tail's dirty bits are not wanted");
	kvm_layout_plan_free(p);
	kvm_layout_host_close(&host);
	tear_down();
}

/* With a ring, a slot that logs keeps no bitmap, and KVM does not like one. */
static void test_ring(void)
{
	const region_t a = region(3, 10, 70, LOG);
	const region_t come[] = { region(0, 10, 2, LOG) };
	struct kvm_layout_plan *p;
	size_t done;
	int err;

	set_up();
	model.no_bitmaps = true;
	create(&a);
	kvm_fake_host(&host);
	p = make_plan(&a.slot, 1, come, 1);
	err = kvm_layout_apply(&host, layout, p, NULL, &done);
	if (!tap_ok(!err && done == 1 && kvm_model_is(&model, layout),
		    "apply: a slot that logs to a ring shrinks"))
		tap_note("error %d at step %zu", err, done);
	kvm_layout_plan_free(p);
	kvm_layout_host_close(&host);
	tear_down();
}

static bool tail_was_told;

static void after(void *opaque, const struct kvm_layout_step *step,
		  const uint64_t *dirty)
{
	(void)opaque;
	(void)step;
	tail_was_told = dirty;
}

static void test_ring_after(void)
{
	const region_t a = region(3, 10, 70, LOG);
	const region_t come[] = { region(0, 10, 2, LOG) };
	const struct kvm_layout_hooks hooks = { .after = after };
	struct kvm_layout_plan *p;
	size_t done;
	int err;

	set_up();
	model.no_bitmaps = true;
	create(&a);
	kvm_fake_host(&host);
	p = make_plan(&a.slot, 1, come, 1);
	err = kvm_layout_apply(&host, layout, p, &hooks, &done);
	if (!tap_ok(!err && done == 1 && kvm_model_is(&model, layout) &&
		    !tail_was_told,
		    "apply: so it does where dirty bits would be welcome"))
		tap_note("error %d at step %zu", err, done);
	kvm_layout_plan_free(p);
	kvm_layout_host_close(&host);
	tear_down();
}

static void test_apply_plainly(void)
{
	const region_t a = region(3, 10, 70, LOG);
	const region_t come[] = { region(0, 10, 2, LOG) };
	struct kvm_layout_hooks none = { 0 };
	struct kvm_layout_plan *p;

	set_up();
	create(&a);
	kvm_fake_host(&host);
	p = make_plan(&a.slot, 1, come, 1);
	tap_ok(!kvm_layout_apply(&host, layout, p, NULL, NULL) &&
	       kvm_model_is(&model, layout), "apply: without hooks");
	kvm_layout_plan_free(p);
	p = make_plan(&a.slot, 1, &a, 1);
	tap_ok(!kvm_layout_apply(&host, layout, p, &none, NULL) &&
	       kvm_model_is(&model, layout), "apply: with hooks that are NULL");
	kvm_layout_plan_free(p);
	kvm_layout_host_close(&host);
	tear_down();
}

/* Resizing. */

static int nr_holds;
static int nr_releases;
static bool was_held;

static int hold(void *opaque)
{
	(void)opaque;
	nr_holds++;
	return 0;
}

static void release(void *opaque)
{
	(void)opaque;
	nr_releases++;
}

static void on_call(void)
{
	was_held = nr_holds > nr_releases;
}

static const struct kvm_layout_hooks hold_hooks = {
	.hold = hold,
	.release = release,
};

/* The model has the slot as the VMM sees it, or none if that is empty. */
static bool has_slot(const region_t *slot)
{
	struct kvm_model_slot *s = kvm_model_find(&model, slot->slot);

	if (!slot->memory_size)
		return !s;
	return s && kvm_model_same_region(&s->region, slot);
}

static void start_resize(region_t *slot, uint32_t ops)
{
	set_up();
	model.ops = ops;
	kvm_fake_host(&host);
	*slot = region(3, 10, 4, LOG | RO);
	kvm_model_set_region(&model, slot);
	model.nr_calls = 0;
	model.nr_swaps = 0;
	nr_holds = 0;
	nr_releases = 0;
	kvm_fake.on_call = on_call;
}

static void end_resize(void)
{
	kvm_layout_host_close(&host);
	tear_down();
}

static void test_resize(void)
{
	region_t slot;

	start_resize(&slot, KVM_LAYOUT_ALL_OPS);
	tap_ok(!kvm_layout_resize(&host, &slot, 6 * PAGE, NULL) &&
	       slot.memory_size == 6 * PAGE && has_slot(&slot) &&
	       model.nr_calls == 1, "resize: longer");
	tap_ok(!kvm_layout_resize(&host, &slot, 2 * PAGE, NULL) &&
	       slot.memory_size == 2 * PAGE && has_slot(&slot) &&
	       model.nr_calls == 2, "resize: shorter");
	tap_ok(!kvm_layout_resize(&host, &slot, 2 * PAGE, NULL) &&
	       slot.memory_size == 2 * PAGE && has_slot(&slot) &&
	       model.nr_swaps == 4, "resize: as it is");
	tap_ok(kvm_layout_resize(&host, &slot, 2 * PAGE + 8, NULL) < 0 &&
	       slot.memory_size == 2 * PAGE && has_slot(&slot),
	       "resize: not aligned");
	model.fail_call = model.nr_calls + 1;
	model.fail_errno = ENOMEM;
	tap_ok(kvm_layout_resize(&host, &slot, 6 * PAGE, NULL) == -ENOMEM &&
	       slot.memory_size == 2 * PAGE && has_slot(&slot),
	       "resize: a call that fails");
	tap_ok(!kvm_layout_resize(&host, &slot, 0, NULL) &&
	       !slot.memory_size && has_slot(&slot), "resize: to nothing");
	end_resize();
}

static void test_resize_ring(void)
{
	region_t slot;

	start_resize(&slot, KVM_LAYOUT_ALL_OPS);
	model.no_bitmaps = true;
	tap_ok(!kvm_layout_resize(&host, &slot, 2 * PAGE, NULL) &&
	       slot.memory_size == 2 * PAGE && has_slot(&slot),
	       "resize: shorter, with a ring");
	end_resize();
}

static void test_resize_without(void)
{
	region_t slot;

	start_resize(&slot, 0);
	tap_ok(kvm_layout_resize(&host, &slot, 6 * PAGE, NULL) ==
	       -EOPNOTSUPP && slot.memory_size == 4 * PAGE &&
	       has_slot(&slot) && !model.nr_calls,
	       "resize: without the module and without hooks");
	tap_ok(!kvm_layout_resize(&host, &slot, 6 * PAGE, &hold_hooks) &&
	       slot.memory_size == 6 * PAGE && has_slot(&slot) &&
	       nr_holds == 1 && nr_releases == 1 && was_held,
	       "resize: without the module");
	tap_ok(!kvm_layout_resize(&host, &slot, 0, &hold_hooks) &&
	       !slot.memory_size && has_slot(&slot) &&
	       nr_holds == nr_releases,
	       "resize: without the module, to nothing");
	end_resize();
}

static void test_resize_without_fails(void)
{
	region_t slot;

	start_resize(&slot, 0);
	model.fail_call = 2;
	model.fail_errno = ENOMEM;
	tap_ok(kvm_layout_resize(&host, &slot, 6 * PAGE, &hold_hooks) ==
	       -ENOMEM && slot.memory_size == 4 * PAGE,
	       "resize: without the module, the slot cannot be created again");
	tap_note("then the slot is%s there as before, vCPUs are %s",
		 has_slot(&slot) ? "" : " not",
		 nr_holds > nr_releases ? "held" : "released");
	end_resize();
}

/* Entries of dirty rings. */

static void test_ring_gpa(void)
{
	const region_t a = region(3, 10, 4, LOG);
	const struct kvm_layout_step shrink = {
		.op = KVM_LAYOUT_SHRINK,
		.before = region(4, 20, 6, LOG),
		.after = region(4, 20, 2, LOG),
	};
	const uint32_t removed = NUMBER(KVM_LAYOUT_REMOVED_ID);
	uint64_t gpa = 1;

	set_up();
	kvm_layout_add(layout, &a);
	tap_ok(!kvm_layout_ring_gpa(layout, NULL, a.slot, 3, &gpa) &&
	       gpa == 13 * PAGE, "ring: a page of a slot");
	tap_ok(!kvm_layout_ring_gpa(layout, &shrink, removed, 3, &gpa) &&
	       gpa == 25 * PAGE, "ring: a page that was removed");
	gpa = 1;
	tap_ok(kvm_layout_ring_gpa(layout, &shrink, a.slot, 4, &gpa) ==
	       -ENOENT &&
	       kvm_layout_ring_gpa(layout, &shrink, a.slot,
				   UINT64_C(1) << 52, &gpa) == -ENOENT &&
	       kvm_layout_ring_gpa(layout, &shrink, a.slot, UINT64_MAX,
				   &gpa) == -ENOENT && gpa == 1,
	       "ring: behind a slot");
	tap_ok(kvm_layout_ring_gpa(layout, &shrink, removed, 4, &gpa) ==
	       -ENOENT &&
	       kvm_layout_ring_gpa(layout, &shrink, removed,
				   UINT64_C(1) << 52, &gpa) == -ENOENT &&
	       gpa == 1, "ring: behind what was removed");
	tap_ok(kvm_layout_ring_gpa(layout, NULL, removed, 0, &gpa) ==
	       -ENOENT && gpa == 1, "ring: nothing was removed");
	tap_ok(kvm_layout_ring_gpa(layout, &shrink, NUMBER(5), 0, &gpa) ==
	       -ENOENT &&
	       kvm_layout_ring_gpa(layout, &shrink, 3, 0, &gpa) == -ENOENT &&
	       kvm_layout_ring_gpa(layout, &shrink, KVM_LAYOUT_REMOVED_ID, 0,
				   &gpa) == -ENOENT && gpa == 1,
	       "ring: a slot that is not there");
	tear_down();
}

int main(void)
{
	test_host();
	test_host_without();
	test_host_stranger("another device has the number", false, 1);
	test_host_stranger("a newer module", true, 2);
	test_host_fails();
	test_host_some();
	test_new();
	test_add();
	test_add_beside();
	test_bad_adds();
	test_copy();
	test_bad_comes();
	test_bad_gone();
	test_nospc();
	test_step_call();
	test_step_fails();
	test_ring();
	test_ring_after();
	test_apply_plainly();
	test_resize();
	test_resize_ring();
	test_resize_without();
	test_resize_without_fails();
	test_ring_gpa();
	return tap_end();
}
