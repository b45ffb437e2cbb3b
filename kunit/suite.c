// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of what is logic: the two slot sets, where huge mappings are
 * allowed, arrays that move, the dirty log of a new layout, and the checks of what user space asks
 * for.  The code under test is included, for it exports nothing.
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/random.h>

#include "../src/array.c"
#include "../src/x86/arrays.c"
#include "../src/change.c"
#include "../src/check.c"
#include "../src/dirty.c"
#include "../src/x86/lpage.c"
#include "../src/pinned.c"
#include "../src/slots.c"
#include "../src/wrapper/symbol.c"

/* These tests run without KVM: there is no PML, and no vCPU. */
DEFINE_STATIC_CALL_RET0(memslot_ops_kvm_cpu_dirty_log_size, kvm_cpu_dirty_log_size);
DEFINE_STATIC_CALL_RET0(memslot_ops_kvm_make_all_cpus_request, kvm_make_all_cpus_request);
DEFINE_STATIC_CALL_NULL(memslot_ops_find_vm_area, find_vm_area);

static unsigned int seed;
module_param(seed, uint, 0444);
MODULE_PARM_DESC(seed, "of the random cases; 0 for a new one each time");

static struct rnd_state rnd;

static u32 below(u32 bound)
{
	return prandom_u32_state(&rnd) % bound;
}

static struct kvm_memory_slot *new_slot(struct kunit *test, int id, gfn_t base_gfn,
					unsigned long npages, unsigned long hva)
{
	struct kvm_memory_slot *slot = kunit_kzalloc(test, sizeof(*slot), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, slot);
	slot->id = id;
	slot->base_gfn = base_gfn;
	slot->npages = npages;
	slot->userspace_addr = hva;

	return slot;
}

/*
 * Arrays of counts with KVM's rule for a new slot, written down a second time:
 * one reason for an end inside the first or the last frame, or for host
 * addresses that are not congruent.
 */
static void give_lpage_info(struct kunit *test, struct kvm_memory_slot *slot)
{
	unsigned long i;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		u64 pages = KVM_PAGES_PER_HPAGE(level);
		gfn_t end = slot->base_gfn + slot->npages;
		unsigned long nr = DIV64_U64_ROUND_UP(end, pages) -
				   div64_u64(slot->base_gfn, pages);
		struct kvm_lpage_info *info;

		info = kunit_kcalloc(test, nr, sizeof(*info), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, info);

		for (i = 0; i < nr; i++) {
			if ((slot->userspace_addr >> PAGE_SHIFT) % pages != slot->base_gfn % pages)
				info[i].disallow_lpage = 1;
		}
		if (slot->base_gfn % pages)
			info[0].disallow_lpage = 1;
		if (end % pages)
			info[nr - 1].disallow_lpage = 1;

		slot->arch.lpage_info[level - PG_LEVEL_2M] = info;
	}
}

/* A slot of up to 4 GiB, with ends that are sometimes aligned. */
static struct kvm_memory_slot *random_slot(struct kunit *test)
{
	static const unsigned int alignments[] = { 1, 7, 512, 512 * 512 };
	unsigned int align = alignments[below(ARRAY_SIZE(alignments))];
	gfn_t base_gfn = roundup(below(1 << 20), align);
	unsigned long npages = roundup(1 + below(1 << 20), alignments[below(4)]);
	gfn_t shift = below(4) ? 0 : below(1024);

	return new_slot(test, 0, base_gfn, npages,
			(base_gfn + (1UL << 30) + shift) << PAGE_SHIFT);
}

static void lpage_cut_is_kvms_rule(struct kunit *test)
{
	int round, level;

	for (round = 0; round < 200; round++) {
		struct kvm_memory_slot *slot = random_slot(test);

		give_lpage_info(test, slot);

		for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
			gfn_t gfn;

			for (gfn = slot->base_gfn; gfn < slot->base_gfn + slot->npages;
			     gfn += 1 + below(600)) {
				if (lpage_info(slot, gfn, level)->disallow_lpage ==
				    lpage_cut(slot, gfn, level))
					continue;
				KUNIT_FAIL(test, "gfn %llx of %llx + %lx, hva %lx, level %d",
					   gfn, slot->base_gfn, slot->npages,
					   slot->userspace_addr, level);
				return;
			}
		}
	}
}

static u64 sum_of_counts(const struct kvm_memory_slot *slot)
{
	gfn_t last = slot->base_gfn + slot->npages - 1;
	unsigned long i;
	u64 sum = 0;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		for (i = 0; i <= lpage_index(slot, last, level); i++)
			sum += slot->arch.lpage_info[level - PG_LEVEL_2M][i].disallow_lpage;
	}

	return sum;
}

/* Cut a slot into pieces, which are like slots that merge into it. */
static unsigned int cut_randomly(struct kunit *test, const struct kvm_memory_slot *whole,
				 struct kvm_memory_slot **pieces, unsigned int max)
{
	gfn_t gfn = whole->base_gfn, end = gfn + whole->npages;
	unsigned int nr = 0;

	while (gfn < end && nr < max) {
		unsigned long npages = 1 + below(below(2) ? 1000 : end - gfn);

		npages = min_t(u64, npages, end - gfn);
		pieces[nr] = new_slot(test, nr, gfn, npages, whole->userspace_addr +
				      ((gfn - whole->base_gfn) << PAGE_SHIFT));
		nr++;
		gfn += npages;
	}

	return nr;
}

static void hold(const struct kvm_memory_slot *span, struct kvm_memory_slot **slots,
		 unsigned int nr, int delta)
{
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		lpage_hold(span, level, slots, nr, NULL, delta);
}

/* That a page's frame is held just once if any of the pieces that touch it cuts it. */
static void expect_held(struct kunit *test, const struct kvm_memory_slot *span,
			struct kvm_memory_slot **pieces, unsigned int nr, gfn_t gfn)
{
	unsigned int i;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		gfn_t first = gfn & ~(KVM_PAGES_PER_HPAGE(level) - 1);
		gfn_t end = first + KVM_PAGES_PER_HPAGE(level);
		int held = lpage_cut(span, gfn, level);

		for (i = 0; i < nr; i++) {
			if (pieces[i]->base_gfn < end &&
			    pieces[i]->base_gfn + pieces[i]->npages > first)
				held |= lpage_cut(pieces[i], gfn, level);
		}

		KUNIT_EXPECT_EQ(test, lpage_info(span, gfn, level)->disallow_lpage, held);
	}
}

static void lpage_hold_covers_every_cut(struct kunit *test)
{
	struct kvm_memory_slot *pieces[8];
	unsigned int round, nr, i;

	for (round = 0; round < 200; round++) {
		struct kvm_memory_slot *span = random_slot(test);
		u64 before;

		give_lpage_info(test, span);
		nr = cut_randomly(test, span, pieces, ARRAY_SIZE(pieces));
		before = sum_of_counts(span);

		hold(span, pieces, nr, 1);
		for (i = 0; i < nr; i++) {
			gfn_t first = pieces[i]->base_gfn;

			expect_held(test, span, pieces, nr, first);
			expect_held(test, span, pieces, nr, first + below(pieces[i]->npages));
			expect_held(test, span, pieces, nr, first + pieces[i]->npages - 1);
		}

		hold(span, pieces, nr, -1);
		KUNIT_EXPECT_EQ(test, sum_of_counts(span), before);
	}
}

/* A slot that ends inside a frame grows beyond it: held, then free. */
static void lpage_hold_of_a_growth(struct kunit *test)
{
	struct kvm_memory_slot *old = new_slot(test, 0, 512, 1000, 512 << PAGE_SHIFT);
	struct kvm_memory_slot *new = new_slot(test, 0, 512, 2048, 512 << PAGE_SHIFT);

	give_lpage_info(test, new);

	KUNIT_EXPECT_EQ(test, lpage_info(new, 1024, PG_LEVEL_2M)->disallow_lpage, 0);
	hold(new, &old, 1, 1);
	KUNIT_EXPECT_EQ(test, lpage_info(new, 512, PG_LEVEL_2M)->disallow_lpage, 0);
	KUNIT_EXPECT_EQ(test, lpage_info(new, 1024, PG_LEVEL_2M)->disallow_lpage, 1);
	KUNIT_EXPECT_EQ(test, lpage_info(new, 1536, PG_LEVEL_2M)->disallow_lpage, 0);
	hold(new, &old, 1, -1);
	KUNIT_EXPECT_EQ(test, lpage_info(new, 1024, PG_LEVEL_2M)->disallow_lpage, 0);
}

static struct kvm *new_vm(struct kunit *test)
{
	struct kvm *kvm = kunit_kzalloc(test, sizeof(*kvm), GFP_KERNEL);
	int as_id, i;

	KUNIT_ASSERT_NOT_NULL(test, kvm);
	mutex_init(&kvm->slots_lock);
	mutex_lock(&kvm->slots_lock);

	for (as_id = 0; as_id < KVM_MAX_NR_ADDRESS_SPACES; as_id++) {
		for (i = 0; i < 2; i++) {
			struct kvm_memslots *set = &kvm->__memslots[as_id][i];

			set->hva_tree = RB_ROOT_CACHED;
			set->gfn_tree = RB_ROOT;
			hash_init(set->id_hash);
			set->node_idx = i;
		}
		rcu_assign_pointer(kvm->memslots[as_id], &kvm->__memslots[as_id][0]);
	}

	return kvm;
}

static void swap_sets(struct kvm *kvm, u16 as_id)
{
	rcu_assign_pointer(kvm->memslots[as_id], slots_inactive(kvm, as_id));
}

/* As an operation does it: into the inactive set, swap, into the other one. */
static void replace(struct kvm *kvm, struct kvm_memory_slot **old, unsigned int nr_old,
		    struct kvm_memory_slot **new, unsigned int nr_new)
{
	slots_replace(kvm, 0, old, nr_old, new, nr_new);
	swap_sets(kvm, 0);
	slots_replace(kvm, 0, old, nr_old, new, nr_new);
}

/* That both sets hold just these slots, by number, by frame and by host address. */
static void expect_slots(struct kunit *test, struct kvm *kvm,
			 struct kvm_memory_slot **slots, unsigned int nr)
{
	unsigned int i, round, found;

	for (round = 0; round < 2; round++, swap_sets(kvm, 0)) {
		struct kvm_memslots *set = __kvm_memslots(kvm, 0);
		struct interval_tree_node *node;
		struct kvm_memory_slot *slot;
		struct rb_node *rb;
		int bkt;

		found = 0;
		hash_for_each(set->id_hash, bkt, slot, id_node[set->node_idx])
			found++;
		KUNIT_EXPECT_EQ(test, found, nr);

		for (i = 0, rb = rb_first(&set->gfn_tree); rb; rb = rb_next(rb), i++) {
			slot = container_of(rb, struct kvm_memory_slot, gfn_node[set->node_idx]);
			KUNIT_ASSERT_LT(test, i, nr);
			KUNIT_EXPECT_PTR_EQ(test, slot, slots[i]);
		}
		KUNIT_EXPECT_EQ(test, i, nr);

		found = 0;
		for (node = interval_tree_iter_first(&set->hva_tree, 0, ULONG_MAX); node;
		     node = interval_tree_iter_next(node, 0, ULONG_MAX))
			found++;
		KUNIT_EXPECT_EQ(test, found, nr);

		for (i = 0; i < nr; i++) {
			gfn_t last = slots[i]->base_gfn + slots[i]->npages - 1;
			unsigned long hva = slots[i]->userspace_addr +
					    (slots[i]->npages << PAGE_SHIFT) - 1;

			KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, slots[i]->id), slots[i]);
			KUNIT_EXPECT_PTR_EQ(test, __gfn_to_memslot(set, last), slots[i]);
			node = interval_tree_iter_first(&set->hva_tree, hva, hva);
			KUNIT_EXPECT_PTR_EQ(test, node, &slots[i]->hva_node[set->node_idx]);
		}

		slot = (void *)atomic_long_read(&set->last_used_slot);
		for (i = 0; slot && i < nr && slots[i] != slot; i++)
			;
		KUNIT_EXPECT_TRUE_MSG(test, !slot || i < nr, "last_used_slot has left");
	}
}

static void slots_are_replaced_in_both_sets(struct kunit *test)
{
	struct kvm_memory_slot *now[8], *next[8];
	unsigned int round, nr, nr_next;

	for (round = 0; round < 100; round++) {
		struct kvm_memory_slot *whole = random_slot(test);
		struct kvm *kvm = new_vm(test);

		nr = cut_randomly(test, whole, now, ARRAY_SIZE(now));
		replace(kvm, NULL, 0, now, nr);
		expect_slots(test, kvm, now, nr);

		nr_next = cut_randomly(test, whole, next, ARRAY_SIZE(next));
		replace(kvm, now, nr, next, nr_next);
		expect_slots(test, kvm, next, nr_next);

		mutex_unlock(&kvm->slots_lock);
		kunit_kfree(test, kvm);
	}
}

static void slots_are_found(struct kunit *test)
{
	struct kvm_memory_slot *slot = new_slot(test, 5, 0x100, 0x10, 0x7000000);
	struct kvm *kvm = new_vm(test);

	replace(kvm, NULL, 0, &slot, 1);

	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, 5), slot);
	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, 6), ERR_PTR(-ENOENT));
	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, 1 << 16 | 5), ERR_PTR(-ENOENT));
	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, 2 << 16 | 5), ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, KVM_USER_MEM_SLOTS - 1), ERR_PTR(-ENOENT));
	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, KVM_USER_MEM_SLOTS), ERR_PTR(-EINVAL));
	KUNIT_EXPECT_PTR_EQ(test, slots_find(kvm, 0xffff), ERR_PTR(-EINVAL));

	KUNIT_EXPECT_TRUE(test, slots_overlap(kvm, 0, 0x10f, 0x110));
	KUNIT_EXPECT_TRUE(test, slots_overlap(kvm, 0, 0xff, 0x101));
	KUNIT_EXPECT_FALSE(test, slots_overlap(kvm, 0, 0x110, 0x1000));
	KUNIT_EXPECT_FALSE(test, slots_overlap(kvm, 0, 0, 0x100));
	KUNIT_EXPECT_FALSE(test, slots_overlap(kvm, 1, 0, 0x1000));

	mutex_unlock(&kvm->slots_lock);
}

static void sizes_to_grow_to(struct kunit *test)
{
	const u64 max = KVM_MEM_MAX_NR_PAGES;
	struct kvm_memory_slot *slot = new_slot(test, 0, 0x100, 0x10, 0x7000000);
	struct kvm_memory_slot *high = new_slot(test, 0, U64_MAX >> PAGE_SHIFT, 1, 0x7000000);
	struct kvm_memory_slot *top = new_slot(test, 0, 0x100, 1, TASK_SIZE_MAX - PAGE_SIZE);

	KUNIT_EXPECT_EQ(test, check_larger(slot, 0x11 << PAGE_SHIFT), 0);
	KUNIT_EXPECT_EQ(test, check_larger(slot, max << PAGE_SHIFT), 0);
	KUNIT_EXPECT_EQ(test, check_larger(slot, (max + 1) << PAGE_SHIFT), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(slot, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(slot, 0xf << PAGE_SHIFT), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(slot, 0x10 << PAGE_SHIFT), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(slot, (0x11 << PAGE_SHIFT) + 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(slot, U64_MAX), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(slot, U64_MAX & PAGE_MASK), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(high, 2 << PAGE_SHIFT), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_larger(top, 2 << PAGE_SHIFT), -EINVAL);
}

static void sizes_to_shrink_to(struct kunit *test)
{
	struct kvm_memory_slot *slot = new_slot(test, 0, 0x100, 0x10, 0x7000000);

	KUNIT_EXPECT_EQ(test, check_smaller(slot, 0), 0);
	KUNIT_EXPECT_EQ(test, check_smaller(slot, PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, check_smaller(slot, 0xf << PAGE_SHIFT), 0);
	KUNIT_EXPECT_EQ(test, check_smaller(slot, 0x10 << PAGE_SHIFT), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_smaller(slot, 0x11 << PAGE_SHIFT), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_smaller(slot, PAGE_SIZE / 2), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_smaller(slot, U64_MAX & PAGE_MASK), -EINVAL);
}

static void places_to_cut(struct kunit *test)
{
	struct kvm_memory_slot *slot = new_slot(test, 0, 0x100, 4, 0x7000000);
	struct {
		struct kvm_memslot_cut cuts[2];
		unsigned int nr;
		int result;
	} cases[] = {
		{ { { 0x1000, 1 } }, 1, 0 },
		{ { { 0x3000, 1 } }, 1, 0 },
		{ { { 0x1000, 1 }, { 0x2000, 2 } }, 2, 0 },
		{ { }, 0, -EINVAL },
		{ { { 0, 1 } }, 1, -EINVAL },
		{ { { 0x4000, 1 } }, 1, -EINVAL },
		{ { { 0x5000, 1 } }, 1, -EINVAL },
		{ { { 0x1800, 1 } }, 1, -EINVAL },
		{ { { U64_MAX & PAGE_MASK, 1 } }, 1, -EINVAL },
		{ { { 0x1000, 1, 1 } }, 1, -EINVAL },
		{ { { 0x1000, 1 << 16 | 1 } }, 1, -EINVAL },
		{ { { 0x2000, 1 }, { 0x1000, 2 } }, 2, -EINVAL },
		{ { { 0x1000, 1 }, { 0x1000, 2 } }, 2, -EINVAL },
		{ { { 0x1000, 1 }, { 0x2000, 1 } }, 2, -EINVAL },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		KUNIT_EXPECT_EQ_MSG(test, check_cuts(slot, cases[i].cuts, cases[i].nr),
				    cases[i].result, "case %u", i);
}

static void slots_to_merge(struct kunit *test)
{
	struct kvm_memory_slot *first = new_slot(test, 0, 0x100, 4, 0x7000000);
	struct kvm_memory_slot *second = new_slot(test, 1, 0x104, 4, 0x7004000);

	KUNIT_EXPECT_EQ(test, check_adjacent(first, second), 0);
	KUNIT_EXPECT_EQ(test, check_adjacent(second, first), -EINVAL);
	KUNIT_EXPECT_EQ(test, check_adjacent(first, first), -EINVAL);

	second->flags = KVM_MEM_READONLY;
	KUNIT_EXPECT_EQ(test, check_adjacent(first, second), -EINVAL);
	second->flags = 0;

	second->as_id = 1;
	KUNIT_EXPECT_EQ(test, check_adjacent(first, second), -EINVAL);
	second->as_id = 0;

	second->userspace_addr += PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, check_adjacent(first, second), -EINVAL);
	second->userspace_addr -= PAGE_SIZE;

	second->base_gfn++;
	KUNIT_EXPECT_EQ(test, check_adjacent(first, second), -EINVAL);
}

static void vms_that_are_refused(struct kunit *test)
{
	struct kvm_memory_slot *slot = new_slot(test, 0, 0x100, 0x10, 0x7000000);
	struct kvm *kvm = new_vm(test);
	unsigned long others;
	int bit;

	KUNIT_EXPECT_EQ(test, check_supported(kvm, slot), 0);

	slot->flags = KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES;
	kvm->dirty_ring_size = 4096;
	KUNIT_EXPECT_EQ(test, check_supported(kvm, slot), 0);

	/* KVM_MEM_GUEST_MEMFD, and what no kernel has yet. */
	others = U32_MAX & ~(KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES);
	for_each_set_bit(bit, &others, BITS_PER_LONG) {
		slot->flags = BIT(bit);
		KUNIT_EXPECT_EQ(test, check_supported(kvm, slot), -EOPNOTSUPP);
	}

	mutex_unlock(&kvm->slots_lock);
}

#define FOLD_BITS	(7 * BITS_PER_LONG)

static void random_bits(unsigned long *map)
{
	prandom_bytes_state(&rnd, map, BITS_TO_LONGS(FOLD_BITS) * sizeof(*map));
}

/* At every pair of positions in a word; what is beside stays. */
/* Any of the places where a VM's structures are looked at may hold something else. */
static void foreign_structures_are_refused(struct kunit *test)
{
	struct mm_struct *other = (void *)test;
	struct kvm *kvm = new_vm(test);
	struct kvm_memslots *set;
	int as_id;

	kvm->mm = current->mm;
	kvm->mmu_notifier.mm = current->mm;
	KUNIT_EXPECT_EQ(test, check_structures(kvm), 0);

	kvm->mm = other;
	KUNIT_EXPECT_EQ(test, check_structures(kvm), -ENODEV);
	kvm->mm = current->mm;
	kvm->mmu_notifier.mm = other;
	KUNIT_EXPECT_EQ(test, check_structures(kvm), -ENODEV);
	kvm->mmu_notifier.mm = current->mm;

	for (as_id = 0; as_id < ARRAY_SIZE(kvm->memslots); as_id++) {
		set = __kvm_memslots(kvm, as_id);
		set->node_idx ^= 1;
		KUNIT_EXPECT_EQ(test, check_structures(kvm), -ENODEV);
		set->node_idx ^= 1;
		rcu_assign_pointer(kvm->memslots[as_id], (struct kvm_memslots *)test);
		KUNIT_EXPECT_EQ(test, check_structures(kvm), -ENODEV);
		rcu_assign_pointer(kvm->memslots[as_id], set);
	}
	KUNIT_EXPECT_EQ(test, check_structures(kvm), 0);
	mutex_unlock(&kvm->slots_lock);
}

static void bits_are_folded(struct kunit *test)
{
	DECLARE_BITMAP(before, FOLD_BITS);
	DECLARE_BITMAP(from, FOLD_BITS);
	DECLARE_BITMAP(to, FOLD_BITS);
	unsigned int pair, i;

	for (pair = 0; pair < BITS_PER_LONG * BITS_PER_LONG; pair++) {
		unsigned int from_first = pair % BITS_PER_LONG;
		unsigned int to_first = pair / BITS_PER_LONG;
		unsigned int nr = below(FOLD_BITS - BITS_PER_LONG);

		random_bits(from);
		random_bits(before);
		bitmap_copy(to, before, FOLD_BITS);
		dirty_fold(to, to_first, from, from_first, nr);

		for (i = 0; i < FOLD_BITS; i++) {
			bool added = i >= to_first && i < to_first + nr &&
				     test_bit(i - to_first + from_first, from);

			if (test_bit(i, to) == (test_bit(i, before) || added))
				continue;
			KUNIT_FAIL(test, "bit %u of %u bits from %u to %u", i, nr, from_first,
				   to_first);
			return;
		}
	}
}

/* KVM uses the second half of a slot's bitmap while it hands out the first. */
static void spoil_second_half(struct kvm_memory_slot *slot)
{
	unsigned long bytes = kvm_dirty_bitmap_bytes(slot);

	memset((void *)slot->dirty_bitmap + bytes, 0xff, bytes);
}

/* Pages are marked at random. */
static void give_bitmap(struct kunit *test, struct kvm_memory_slot *slot)
{
	unsigned long i;

	slot->dirty_bitmap = vzalloc(2 * kvm_dirty_bitmap_bytes(slot));
	KUNIT_ASSERT_NOT_NULL(test, slot->dirty_bitmap);
	for (i = 0; i < slot->npages; i++)
		__assign_bit(i, slot->dirty_bitmap, below(2));
	spoil_second_half(slot);
}

/* Is a page marked in one of some slots? */
static bool is_marked(struct kvm_memory_slot *const *slots, unsigned int nr, gfn_t gfn)
{
	struct kvm_memory_slot *slot = find_gfn(slots, nr, gfn);

	return slot && test_bit(gfn - slot->base_gfn, slot->dirty_bitmap);
}

/*
 * Slots of random sizes from a page on, in units but for the last; the numbers are as SPLIT and
 * MERGE give them.
 */
static unsigned int random_slots(struct kunit *test, struct kvm_memory_slot **slots,
				 unsigned int nr, gfn_t base_gfn, unsigned long npages,
				 unsigned long unit)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		unsigned long n = npages;

		if (i + 1 < nr)
			n = unit * (1 + below(npages / unit - (nr - 1 - i)));
		slots[i] = new_slot(test, i, base_gfn, n, base_gfn << PAGE_SHIFT);
		slots[i]->as_id = 1;
		base_gfn += n;
		npages -= n;
	}

	return nr;
}

/* What is marked in the new slots is what was in the old ones, and nothing else. */
static void expect_marks(struct kunit *test, const struct layout_change *c,
			 const unsigned long *marks)
{
	unsigned int i;
	gfn_t gfn;

	for (i = 0; i < c->nr_new; i++)
		spoil_second_half(c->new[i]);

	for (i = 0; i < c->nr_new; i++) {
		struct kvm_memory_slot *slot = c->new[i];
		unsigned long bits = 8 * kvm_dirty_bitmap_bytes(slot);

		for (gfn = slot->base_gfn; gfn < slot->base_gfn + slot->npages; gfn++) {
			if (test_bit(gfn - c->new[0]->base_gfn, marks) ==
			    test_bit(gfn - slot->base_gfn, slot->dirty_bitmap))
				continue;
			KUNIT_FAIL(test, "slot %u of %u: gfn %llx", i, c->nr_new, gfn);
			return;
		}
		KUNIT_EXPECT_EQ(test, find_next_bit(slot->dirty_bitmap, bits, slot->npages), bits);
	}
}

/* SPLIT and MERGE by turns, of slots whose bitmaps come from the operation before. */
static void carry_marks(struct kunit *test, unsigned int steps, unsigned long npages,
			unsigned long unit, unsigned int pieces)
{
	struct kvm *kvm = kunit_kzalloc(test, sizeof(*kvm), GFP_KERNEL);
	unsigned long *marks = vzalloc(BITS_TO_LONGS(npages) * sizeof(*marks));
	struct kvm_memory_slot *slots[2][5];
	gfn_t gfn, base_gfn = below(1000);
	unsigned int nr, step, i;

	KUNIT_ASSERT_TRUE(test, kvm && marks);
	mutex_init(&kvm->slots_lock);
	mutex_lock(&kvm->slots_lock);

	nr = random_slots(test, slots[0], 1, base_gfn, npages, unit);
	give_bitmap(test, slots[0][0]);
	for (step = 0; step < steps; step++) {
		struct layout_change c = {
			.kvm = kvm,
			.nr_old = nr,
			.old = slots[step % 2],
			.new = slots[(step + 1) % 2],
		};

		c.nr_new = random_slots(test, c.new, nr == 1 ? pieces : 1, base_gfn, npages, unit);
		c.span = nr == 1 ? c.old[0] : c.new[0];
		for (gfn = base_gfn; gfn < base_gfn + npages; gfn++)
			__assign_bit(gfn - base_gfn, marks, is_marked(c.old, c.nr_old, gfn));

		KUNIT_ASSERT_EQ(test, dirty_prepare(&c), 0);
		dirty_carry(&c);

		change_keep_bitmap(c.old[0], c.new[0]);
		for (i = 0; i < c.nr_old; i++)
			vfree(c.old[i]->dirty_bitmap);
		expect_marks(test, &c, marks);
		nr = c.nr_new;
	}

	for (i = 0; i < nr; i++)
		vfree(slots[step % 2][i]->dirty_bitmap);
	mutex_unlock(&kvm->slots_lock);
	vfree(marks);
}

static void marks_are_carried(struct kunit *test)
{
	unsigned int round;

	for (round = 0; round < 50; round++)
		carry_marks(test, 8, 500, 1, 5);
	/* Whole pages of bits: they are the same memory in the old and the new bitmap. */
	carry_marks(test, 6, 7 * BITS_PER_PAGE + 37, BITS_PER_PAGE, 5);
	carry_marks(test, 2, 5 * BITS_PER_PAGE, BITS_PER_PAGE / 2, 5);
	/* The first piece is the larger one or not: it keeps all of the bitmap then. */
	for (round = 0; round < 10; round++)
		carry_marks(test, 2, 3 * BITS_PER_PAGE, BITS_PER_PAGE, 2);
}

static void expect_name(struct kunit *test, const struct layout_change *c, u32 slot, u64 offset,
			u32 new_slot, u64 new_offset)
{
	struct kvm_dirty_gfn entry = {
		.flags = KVM_DIRTY_GFN_F_DIRTY,
		.slot = slot,
		.offset = offset,
	};
	bool changes = slot != new_slot || offset != new_offset;

	KUNIT_EXPECT_EQ(test, dirty_rename(c, &entry, c->coming), changes);
	KUNIT_EXPECT_EQ(test, entry.flags, KVM_DIRTY_GFN_F_DIRTY);
	KUNIT_EXPECT_EQ(test, entry.slot, new_slot);
	KUNIT_EXPECT_EQ(test, entry.offset, new_offset);
}

static void ring_entries_are_renamed(struct kunit *test)
{
	struct kvm_memory_slot *whole = new_slot(test, 5, 1000, 100, 0);
	struct kvm_memory_slot *part[] = {
		new_slot(test, 5, 1000, 30, 0),
		new_slot(test, 9, 1030, 1, 0),
		new_slot(test, 7, 1031, 69, 0),
	};
	struct kvm_memory_slot *tail[] = {
		part[0],
		new_slot(test, NO_SLOT, 1030, 70, 0),
	};
	struct layout_change split = { .nr_old = 1, .old = &whole, .nr_new = 3, .new = part };
	struct layout_change merge = { .nr_old = 3, .old = part, .nr_new = 1, .new = &whole };
	struct layout_change shrink = { .nr_old = 1, .old = &whole, .nr_new = 2, .new = tail };
	struct layout_change grow = { .nr_old = 2, .old = tail, .nr_new = 1, .new = &whole,
				      .coming = tail[1] };

	expect_name(test, &split, 5, 0, 5, 0);
	expect_name(test, &split, 5, 29, 5, 29);
	expect_name(test, &split, 5, 30, 9, 0);
	expect_name(test, &split, 5, 31, 7, 0);
	expect_name(test, &split, 5, 99, 7, 68);
	expect_name(test, &split, 5, 100, NO_SLOT, 100);
	expect_name(test, &split, 5, ~0ULL, NO_SLOT, ~0ULL);
	/* Through a new slot already. */
	expect_name(test, &split, 7, 68, 7, 68);
	/* From an earlier slot of that number. */
	expect_name(test, &split, 9, 1, NO_SLOT, 1);
	/* Others are none of its business. */
	expect_name(test, &split, 6, 1000, 6, 1000);
	expect_name(test, &split, 1 << 16 | 5, 30, 1 << 16 | 5, 30);

	expect_name(test, &merge, 5, 29, 5, 29);
	expect_name(test, &merge, 9, 0, 5, 30);
	expect_name(test, &merge, 7, 68, 5, 99);
	expect_name(test, &merge, 7, 69, NO_SLOT, 69);
	expect_name(test, &merge, 5, 30, 5, 30);
	expect_name(test, &merge, 5, 99, 5, 99);
	expect_name(test, &merge, 5, 100, NO_SLOT, 100);

	expect_name(test, &shrink, 5, 29, 5, 29);
	expect_name(test, &shrink, 5, 30, NO_SLOT, 0);
	expect_name(test, &shrink, 5, 99, NO_SLOT, 69);
	expect_name(test, &shrink, NO_SLOT, 3, NO_SLOT, 3);
	expect_name(test, &shrink, NO_SLOT, 300, NO_SLOT, 300);

	/* Marked through what comes; but for what else has that number. */
	expect_name(test, &grow, NO_SLOT, 3, 5, 33);
	expect_name(test, &grow, NO_SLOT, 70, NO_SLOT, 70);
	expect_name(test, &grow, 5, 29, 5, 29);
	expect_name(test, &grow, 5, 30, 5, 30);

	split.as_id = 1;
	shrink.as_id = 1;
	expect_name(test, &split, 1 << 16 | 5, 31, 1 << 16 | 7, 0);
	expect_name(test, &shrink, 1 << 16 | 5, 31, 1 << 16 | NO_SLOT, 1);
	expect_name(test, &shrink, 5, 31, 5, 31);
}

/* What is behind the last valid entry is not touched; indices wrap around. */
static void ring_is_walked(struct kunit *test)
{
	struct kvm_memory_slot *whole = new_slot(test, 5, 1000, 100, 0);
	struct kvm_memory_slot *part[] = {
		new_slot(test, 5, 1000, 30, 0),
		new_slot(test, 9, 1030, 70, 0),
	};
	struct layout_change split = { .nr_old = 1, .old = &whole, .nr_new = 2, .new = part };
	struct kvm_memory_slot *old[] = { part[0], new_slot(test, NO_SLOT, 1030, 70, 0) };
	u32 ring_end;
	struct layout_change grow = { .nr_old = 2, .old = old, .nr_new = 1, .new = &whole,
				      .coming = old[1], .ring_ends = &ring_end, .nr_ring_ends = 1 };
	struct kvm_dirty_gfn gfns[8];
	struct kvm_dirty_ring ring = {
		.dirty_gfns = gfns,
		.size = ARRAY_SIZE(gfns),
	};
	u32 used, i;

	for (used = 0; used <= ARRAY_SIZE(gfns); used++) {
		ring.reset_index = -(u32)below(8);
		ring.dirty_index = ring.reset_index + used;
		for (i = 0; i < ARRAY_SIZE(gfns); i++)
			gfns[i] = (struct kvm_dirty_gfn) { .slot = 5, .offset = 42 };

		rename_entries(&split, &ring, 0);

		for (i = 0; i < ARRAY_SIZE(gfns); i++)
			KUNIT_EXPECT_EQ(test, gfns[(ring.reset_index + i) % ARRAY_SIZE(gfns)].slot,
					i < used ? 9 : 5);
	}

	/* Of those with what comes' number, only the ones that were made when it was there. */
	for (used = 0; used <= ARRAY_SIZE(gfns); used++) {
		ring.reset_index = -(u32)below(8);
		ring.dirty_index = ring.reset_index + ARRAY_SIZE(gfns);
		ring_end = ring.reset_index + used;
		for (i = 0; i < ARRAY_SIZE(gfns); i++)
			gfns[i] = (struct kvm_dirty_gfn) { .slot = NO_SLOT, .offset = 42 };

		/* A vCPU that came meanwhile has no others. */
		rename_entries(&grow, &ring, used == ARRAY_SIZE(gfns));

		for (i = 0; i < ARRAY_SIZE(gfns); i++)
			KUNIT_EXPECT_EQ(test, gfns[(ring.reset_index + i) % ARRAY_SIZE(gfns)].slot,
					i < used && used < ARRAY_SIZE(gfns) ? NO_SLOT : 5);
	}
}

/* Arrays as KVM makes them for a new slot in a VM that has rmaps. */
static void give_arrays(struct kunit *test, struct kvm_memory_slot *slot)
{
	enum array_kind kind;

	give_lpage_info(test, slot);
	for (kind = 0; kind < NR_ARRAYS; kind++) {
		void **array = array_of(&slot->arch, kind);

		if (array_is_lpage(kind))
			continue;
		*array = kunit_kzalloc(test, array_bytes(slot, kind), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, *array);
	}
}

/* What KVM does when it makes a shadow page of a guest page table. */
static void count_page(struct kvm_memory_slot *slot, gfn_t gfn, int count)
{
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		lpage_info(slot, gfn, level)->disallow_lpage += count;
	(*compat_write_track(&slot->arch))[gfn - slot->base_gfn] += count;
}

static struct kvm_rmap_head *rmap_head(struct kvm_memory_slot *slot, gfn_t gfn, int level)
{
	return &slot->arch.rmap[level - PG_LEVEL_4K][lpage_index(slot, gfn, level)];
}

/* Move what is noted about a slot's pages between its own arrays and those of a span. */
static void move_all(struct kvm_memory_slot *slot, struct kvm_memory_slot *span, bool to_span)
{
	enum array_kind kind;

	for (kind = 0; kind < NR_ARRAYS; kind++) {
		void *own = *array_of(&slot->arch, kind);
		void *part = *array_of(&span->arch, kind) +
			     array_offset(span, kind, slot->base_gfn);

		if (to_span)
			array_move(slot, kind, own, part);
		else
			array_move(slot, kind, part, own);
	}
}

/* Something that could be an rmap's head: the address of an entry, whose low bits are 0. */
static unsigned long rmap_of(gfn_t gfn)
{
	return gfn << PAGE_SHIFT;
}

#define NR_SHADOWED	40

/* Slots of random sizes become one, and that becomes slots of random sizes. */
static void arrays_are_moved(struct kunit *test)
{
	const unsigned long npages = 3000;
	unsigned int round;

	for (round = 0; round < 100; round++) {
		gfn_t gfn, base_gfn = below(3000), shadowed[NR_SHADOWED];
		unsigned long hva = (base_gfn + below(2)) << PAGE_SHIFT;
		struct kvm_memory_slot *whole, *old[4], *new[4];
		unsigned int i;

		whole = new_slot(test, 9, base_gfn, npages, hva);
		random_slots(test, old, 4, base_gfn, npages, 1);
		random_slots(test, new, 4, base_gfn, npages, 1);
		for (i = 0; i < 4; i++) {
			old[i]->userspace_addr =
				hva + ((old[i]->base_gfn - base_gfn) << PAGE_SHIFT);
			new[i]->userspace_addr =
				hva + ((new[i]->base_gfn - base_gfn) << PAGE_SHIFT);
			give_arrays(test, old[i]);
			give_arrays(test, new[i]);
		}
		give_arrays(test, whole);

		for (i = 0; i < NR_SHADOWED; i++) {
			shadowed[i] = base_gfn + below(npages);
			count_page(find_gfn(old, 4, shadowed[i]), shadowed[i], 1);
		}
		for (gfn = base_gfn; gfn < base_gfn + npages; gfn += 1 + below(8))
			compat_rmap_put(rmap_head(find_gfn(old, 4, gfn), gfn, PG_LEVEL_4K),
					rmap_of(gfn));

		hold(whole, old, 4, 1);
		for (i = 0; i < 4; i++)
			move_all(old[i], whole, true);
		hold(whole, old, 4, -1);

		for (gfn = base_gfn; gfn < base_gfn + npages; gfn++) {
			unsigned long val = compat_rmap_read(rmap_head(whole, gfn, PG_LEVEL_4K));

			if (compat_rmap_read(rmap_head(find_gfn(old, 4, gfn), gfn, PG_LEVEL_4K)) ||
			    (val && val != rmap_of(gfn)))
				KUNIT_FAIL(test, "rmap of gfn %llx: %lx", gfn, val);
		}

		hold(whole, new, 4, 1);
		for (i = 0; i < 4; i++)
			move_all(new[i], whole, false);

		/* All shadow pages go: no count falls below what the shape makes it. */
		for (i = 0; i < NR_SHADOWED; i++) {
			struct kvm_memory_slot *slot = find_gfn(new, 4, shadowed[i]);

			if (!(*compat_write_track(&slot->arch))[shadowed[i] - slot->base_gfn])
				KUNIT_FAIL(test, "gfn %llx is not tracked", shadowed[i]);
			count_page(slot, shadowed[i], -1);
		}
		for (gfn = base_gfn; gfn < base_gfn + npages; gfn++) {
			struct kvm_memory_slot *slot = find_gfn(new, 4, gfn);
			int count = lpage_info(slot, gfn, PG_LEVEL_2M)->disallow_lpage;
			gfn_t end = ALIGN_DOWN(gfn, 512) + 511;

			if (count < lpage_cut(slot, gfn, PG_LEVEL_2M))
				KUNIT_FAIL(test, "gfn %llx: count %d", gfn, count);
			/* Nor is it more where neither layout has a boundary. */
			if (count && !lpage_cut(slot, gfn, PG_LEVEL_2M) &&
			    !lpage_cut(find_gfn(old, 4, gfn), gfn, PG_LEVEL_2M))
				KUNIT_FAIL(test, "gfn %llx to %llx: count %d", gfn, end, count);
			if ((*compat_write_track(&slot->arch))[gfn - slot->base_gfn])
				KUNIT_FAIL(test, "gfn %llx is still tracked", gfn);
		}
	}
}

/* Whether the counts of @slot, if its arrays began where @arch does, are those of a new slot. */
static void expect_counts_of_new(struct kunit *test, struct kvm_memory_slot *slot,
				 const struct kvm_arch_memory_slot *arch)
{
	struct kvm_memory_slot *like = new_slot(test, 0, slot->base_gfn, slot->npages,
						slot->userspace_addr);
	int level;

	give_lpage_info(test, like);
	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		KUNIT_EXPECT_MEMEQ(test, arch->lpage_info[level - PG_LEVEL_2M],
				   like->arch.lpage_info[level - PG_LEVEL_2M],
				   array_bytes(slot, ARRAY_LPAGE_2M + level - PG_LEVEL_2M));
}

/* What the first piece finds at the start of the whole's arrays is as if it had been new. */
static void first_piece_takes_over(struct kunit *test)
{
	struct kvm_memory_slot *pieces[8];
	unsigned int round, nr, i;

	for (round = 0; round < 200; round++) {
		struct kvm_memory_slot *span = random_slot(test);
		enum array_kind kind;

		give_lpage_info(test, span);
		nr = cut_randomly(test, span, pieces, ARRAY_SIZE(pieces));
		hold(span, pieces, nr, 1);
		expect_counts_of_new(test, pieces[0], &span->arch);

		for (i = 0; i < 20; i++)
			lpage_info(span, span->base_gfn + below(span->npages),
				   PG_LEVEL_2M + below(2))->disallow_lpage += 1 + below(3);
		for (kind = ARRAY_LPAGE_2M; kind <= ARRAY_LPAGE_1G; kind++)
			array_reset(span, kind, *array_of(&span->arch, kind), 0,
				    array_bytes(span, kind));
		expect_counts_of_new(test, span, &span->arch);
	}
}

/* Two arrays become one, and the second part of that a third. */
static void arrays_share_pages(struct kunit *test)
{
	const size_t half = 3 * PAGE_SIZE, bytes = 2 * half + 100;
	unsigned int *first, *second, *whole, *part;
	struct array_part parts[2];

	first = vzalloc(half);
	second = vzalloc(half + 100);
	KUNIT_ASSERT_TRUE(test, first && second);
	first[0] = 1;
	second[half / sizeof(int)] = 2;
	parts[0] = (struct array_part) { .from = first, .bytes = half };
	parts[1] = (struct array_part) { .from = second, .at = half, .bytes = half + 100 };
	whole = array_build(bytes + PAGE_SIZE, parts, 2);
	KUNIT_ASSERT_NOT_NULL(test, whole);
	KUNIT_EXPECT_TRUE(test, parts[0].shared && parts[1].shared);
	KUNIT_EXPECT_EQ(test, array_common((void *)whole + half, second, half + 100), half + 100);
	KUNIT_EXPECT_EQ(test, array_common(whole, second, half), 0);
	KUNIT_EXPECT_TRUE(test, array_is_too_long(whole, half));
	KUNIT_EXPECT_FALSE(test, array_is_too_long(whole, bytes));
	KUNIT_EXPECT_TRUE(test, array_reaches(whole, bytes, bytes + PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, array_reaches(whole, bytes, bytes + 2 * PAGE_SIZE));
	vfree(first);
	vfree(second);

	KUNIT_EXPECT_EQ(test, whole[0], 1);
	KUNIT_EXPECT_EQ(test, whole[2 * half / sizeof(int)], 2);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv((void *)whole + bytes, 0, PAGE_SIZE), NULL);

	/* Not from inside of a page. */
	parts[0] = (struct array_part) { .from = (void *)whole + half + 8, .bytes = 100 };
	part = array_build(100, parts, 1);
	KUNIT_ASSERT_NOT_NULL(test, part);
	KUNIT_EXPECT_FALSE(test, parts[0].shared);
	vfree(part);

	parts[0] = (struct array_part) { .from = (void *)whole + half, .bytes = half + 100 };
	part = array_build(half + 100, parts, 1);
	KUNIT_ASSERT_NOT_NULL(test, part);
	vfree(whole);
	KUNIT_EXPECT_EQ(test, part[half / sizeof(int)], 2);
	vfree(part);
}

/* Those who age pages on some kernels: with the bit set, they go through the list of a head. */
struct ager {
	struct kvm_rmap_head *head;
	unsigned long val;
	struct completion locked, done;
};

static int age(void *arg)
{
	struct ager *ager = arg;

	preempt_disable();
	compat_rmap_put(ager->head, ager->val | COMPAT_RMAP_LOCKED);
	complete(&ager->locked);
	/* Long enough for whoever does not wait. */
	mdelay(20);
	compat_rmap_put(ager->head, ager->val);
	preempt_enable();
	complete(&ager->done);

	return 0;
}

static void locked_head_is_waited_for(struct kunit *test)
{
	const unsigned long npages = 600;
	struct kvm_memory_slot *from = new_slot(test, 0, 0, npages, 0);
	struct kvm_memory_slot *to = new_slot(test, 1, 0, npages, 0);
	struct ager *ager = kunit_kzalloc(test, sizeof(*ager), GFP_KERNEL);
	struct task_struct *thread;
	unsigned long *head;

	KUNIT_ASSERT_NOT_NULL(test, ager);
	if (!compat_locks_rmaps())
		kunit_skip(test, "nobody locks rmaps on this kernel");
	if (num_online_cpus() < 2)
		kunit_skip(test, "it takes two CPUs");

	give_arrays(test, from);
	give_arrays(test, to);
	init_completion(&ager->locked);
	init_completion(&ager->done);
	ager->head = rmap_head(from, 500, PG_LEVEL_4K);
	ager->val = rmap_of(500);
	thread = kthread_run(age, ager, "ager");
	KUNIT_ASSERT_FALSE(test, IS_ERR(thread));
	wait_for_completion(&ager->locked);
	array_move(from, ARRAY_RMAP_4K, from->arch.rmap[0], to->arch.rmap[0]);
	wait_for_completion(&ager->done);

	/* The bit would be waited for if it were there. */
	head = (unsigned long *)&rmap_head(to, 500, PG_LEVEL_4K)->val;
	KUNIT_EXPECT_EQ(test, *head, rmap_of(500));
	KUNIT_EXPECT_EQ(test, compat_rmap_read(ager->head), 0);
}

/* What KVM does when it unmaps pages; true if any was mapped. */
static bool unmap_heads(struct kvm_memory_slot *slot, gfn_t gfn, gfn_t past)
{
	bool any = false;
	int level;

	for (; gfn < past; gfn++) {
		for (level = PG_LEVEL_4K; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
			any |= compat_rmap_take(rmap_head(slot, gfn, level));
	}

	return any;
}

/* Whoever unmaps what is found has unmapped all, and no page in vain. */
static void mapped_pages_are_found(struct kunit *test)
{
	const unsigned long npages = 3000;
	unsigned int round;

	for (round = 0; round < 200; round++) {
		/* Often with the end of a frame of 1 GiB in it. */
		gfn_t gfn, past, base_gfn = (below(2) ? SZ_1G >> PAGE_SHIFT : 3000) - below(3000);
		struct kvm_memory_slot *slot = new_slot(test, 1, base_gfn, npages, 0);
		gfn_t first, end;
		/* Of 1, 2 and so on, one: from all pages to none. */
		unsigned int small = 1 << below(13), huge = 1 << below(4);

		give_arrays(test, slot);
		for (gfn = base_gfn; gfn < base_gfn + npages; gfn++) {
			if (!below(small))
				compat_rmap_put(rmap_head(slot, gfn, PG_LEVEL_4K), rmap_of(gfn));
			if ((IS_ALIGNED(gfn, 512) || gfn == base_gfn) && !below(huge))
				compat_rmap_put(rmap_head(slot, gfn, PG_LEVEL_2M), rmap_of(gfn));
		}
		if (!below(8))
			compat_rmap_put(rmap_head(slot, gfn - 1, PG_LEVEL_1G), rmap_of(gfn - 1));

		first = base_gfn + below(npages);
		end = first + 1 + below(base_gfn + npages - first);
		for (gfn = first; (gfn = arrays_next_mapped(slot, gfn, end, &past)) < end;
		     gfn = past) {
			KUNIT_ASSERT_LT(test, gfn, past);
			KUNIT_ASSERT_LE(test, past, end);
			/* The first of them by the frame, perhaps. */
			if (!unmap_heads(slot, gfn, gfn + 1))
				KUNIT_FAIL(test, "gfn %llx is not mapped", gfn);
			while (++gfn < past) {
				if (!compat_rmap_take(rmap_head(slot, gfn, PG_LEVEL_4K)))
					KUNIT_FAIL(test, "gfn %llx is not mapped", gfn);
				unmap_heads(slot, gfn, gfn + 1);
			}
		}
		if (unmap_heads(slot, first, end))
			KUNIT_FAIL(test, "of gfns %llx to %llx, one is still mapped", first, end);
	}
}

static int suite_init(struct kunit_suite *suite)
{
	u32 used = seed ?: get_random_u32();
	void *addr = symbol_address("find_vm_area");

	if (!addr)
		return -ENOENT;
	static_call_update(memslot_ops_find_vm_area, (typeof(find_vm_area) *)addr);

	prandom_seed_state(&rnd, used);
	kunit_info(suite, "seed=%u", used);

	return 0;
}

static struct kunit_case cases[] = {
	KUNIT_CASE(lpage_cut_is_kvms_rule),
	KUNIT_CASE(lpage_hold_covers_every_cut),
	KUNIT_CASE(lpage_hold_of_a_growth),
	KUNIT_CASE(slots_are_replaced_in_both_sets),
	KUNIT_CASE(slots_are_found),
	KUNIT_CASE(sizes_to_grow_to),
	KUNIT_CASE(sizes_to_shrink_to),
	KUNIT_CASE(places_to_cut),
	KUNIT_CASE(slots_to_merge),
	KUNIT_CASE(vms_that_are_refused),
	KUNIT_CASE(foreign_structures_are_refused),
	KUNIT_CASE(bits_are_folded),
	KUNIT_CASE(marks_are_carried),
	KUNIT_CASE(ring_entries_are_renamed),
	KUNIT_CASE(ring_is_walked),
	KUNIT_CASE(arrays_are_moved),
	KUNIT_CASE(first_piece_takes_over),
	KUNIT_CASE(arrays_share_pages),
	KUNIT_CASE(locked_head_is_waited_for),
	KUNIT_CASE(mapped_pages_are_found),
	{}
};

static struct kunit_suite suite = {
	.name = "kvm_memslot_ops",
	.suite_init = suite_init,
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("Unit tests of kvm_memslot_ops");
MODULE_LICENSE("GPL");
