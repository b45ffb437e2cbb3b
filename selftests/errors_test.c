// SPDX-License-Identifier: GPL-2.0
/*
 * What GROW refuses, with which error; and that nothing has changed then.
 */
#include <sys/wait.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "host.h"
#include "memslot_ops.h"
#include "nested.h"
#include "ops.h"

#define ID		5
#define ID_BEHIND	6
#define PAGES		16
#define GPA		(4 * GIGA_SIZE)
/* Where the next slot starts; what lies between is free. */
#define PAGES_FREE	48
#define RANGE		(PAGES_FREE * PAGE_SIZE + HUGE_SIZE)

/* Reads wherever the host says, and tells what it read. */
static void guest_code(uint64_t *where)
{
	for (;;)
		GUEST_SYNC(READ_ONCE(*(uint64_t *)READ_ONCE(*where)));
}

FIXTURE(errors) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	char *mem;
	uint64_t *where;		/* the guest's */
	int dev;
	uint64_t failed;
};

FIXTURE_SETUP(errors)
{
	vm_vaddr_t where;
	int i;

	self->vm = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	self->vm = vm_create_with_one_vcpu(&self->vcpu, guest_code);
	self->dev = memslot_ops_open(self->vm);

	self->mem = host_map(RANGE, HUGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < RANGE / PAGE_SIZE; i++)
		*(uint64_t *)(self->mem + i * PAGE_SIZE) = 0xfeed0000 + i;
	TEST_ASSERT_EQ(slot_set(self->vm, ID, 0, GPA, PAGES * PAGE_SIZE,
				self->mem), 0);
	TEST_ASSERT_EQ(slot_set(self->vm, ID_BEHIND, 0,
				GPA + PAGES_FREE * PAGE_SIZE, HUGE_SIZE,
				self->mem + PAGES_FREE * PAGE_SIZE), 0);
	virt_map(self->vm, GPA, GPA, RANGE / PAGE_SIZE);

	where = vm_vaddr_alloc_page(self->vm);
	self->where = addr_gva2hva(self->vm, where);
	vcpu_args_set(self->vcpu, 1, where);
	self->failed = 0;
}

FIXTURE_TEARDOWN(errors)
{
	if (!self->vm)
		return;
	close(self->dev);
	kvm_vm_free(self->vm);
}

/* What the guest reads at a page, or -1 where there is no memory. */
static int64_t guest_reads(struct kvm_vcpu *vcpu, uint64_t *where, uint64_t page)
{
	struct kvm_run *run = vcpu->run;
	struct ucall uc;

	*where = GPA + page * PAGE_SIZE;
	vcpu_run(vcpu);
	if (run->exit_reason == KVM_EXIT_MMIO) {
		TEST_ASSERT_EQ(run->mmio.phys_addr, *where);
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		vcpu_run(vcpu);
	}
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "unexpected exit: %s",
		    exit_reason_str(run->exit_reason));
	return uc.args[1];
}

static void __assert_unchanged(struct kvm_vm *vm, struct kvm_vcpu *vcpu,
			       char *mem, uint64_t *where)
{
	slot_assert(vm, ID, 0, GPA, PAGES * PAGE_SIZE, mem);
	slot_assert(vm, ID_BEHIND, 0, GPA + PAGES_FREE * PAGE_SIZE, HUGE_SIZE,
		    mem + PAGES_FREE * PAGE_SIZE);

	TEST_ASSERT_EQ(guest_reads(vcpu, where, 0), 0xfeed0000);
	TEST_ASSERT_EQ(guest_reads(vcpu, where, PAGES - 1),
		       0xfeed0000 + PAGES - 1);
	TEST_ASSERT_EQ(guest_reads(vcpu, where, PAGES), -1);
	TEST_ASSERT_EQ(guest_reads(vcpu, where, PAGES_FREE - 1), -1);
	TEST_ASSERT_EQ(guest_reads(vcpu, where, PAGES_FREE),
		       0xfeed0000 + PAGES_FREE);
}

#define assert_unchanged()						\
	__assert_unchanged(self->vm, self->vcpu, self->mem, self->where)

/* A call that must fail, and leave everything as it was. */
#define assert_fails(_call, _errno)					\
do {									\
	int __err = (_call);						\
									\
	TEST_ASSERT(__err == (_errno), "%s gives %d (%s), not %s",	\
		    #_call, __err, strerror(__err), #_errno);		\
	memslot_ops_assert_stats(self->dev, 0, 0, ++self->failed);	\
	assert_unchanged();						\
} while (0)

static int grow_flags(int dev, uint32_t flags)
{
	struct kvm_memslot_grow grow = {
		.slot = ID,
		.flags = flags,
		.memory_size = (PAGES + 1) * PAGE_SIZE,
	};

	return ioctl(dev, KVM_MEMSLOT_GROW, &grow) ? errno : 0;
}

static int grow_at(int dev, void *arg)
{
	return ioctl(dev, KVM_MEMSLOT_GROW, arg) ? errno : 0;
}

#define grow(slot, size) slot_grow(self->dev, (slot), (size))

TEST_F(errors, efault)
{
	char *page = host_map(2 * PAGE_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	struct kvm_memslot_grow *grow = (void *)(page + PAGE_SIZE - 8);

	assert_fails(grow_at(self->dev, NULL), EFAULT);
	assert_fails(grow_at(self->dev, (void *)-8UL), EFAULT);

	/* Half of it is there. */
	TEST_ASSERT_EQ(munmap(page + PAGE_SIZE, PAGE_SIZE), 0);
	grow->slot = ID;
	grow->flags = 0;
	assert_fails(grow_at(self->dev, grow), EFAULT);
}

TEST_F(errors, einval_flags)
{
	int bit;

	for (bit = 0; bit < 32; bit++)
		assert_fails(grow_flags(self->dev, 1U << bit), EINVAL);
}

TEST_F(errors, einval_slot_number)
{
	const uint32_t user_slots = kvm_check_cap(KVM_CAP_NR_MEMSLOTS);
	const uint64_t size = (PAGES + 1) * PAGE_SIZE;
	uint32_t id;

	/* KVM's own: TSS, identity map, APIC page; and none at all. */
	for (id = user_slots; id < user_slots + 8; id++)
		assert_fails(grow(id, size), EINVAL);
	assert_fails(grow(0x7fff, size), EINVAL);
	assert_fails(grow(0xffff, size), EINVAL);

	/* Address spaces there are not; SLOT(2, ID) is like ID in 16 bits. */
	assert_fails(grow(SLOT(2, ID), size), EINVAL);
	assert_fails(grow(SLOT(0x7fff, ID), size), EINVAL);
	assert_fails(grow(SLOT(0xffff, ID), size), EINVAL);
}

TEST_F(errors, einval_size)
{
	const uint64_t size = PAGES * PAGE_SIZE;

	assert_fails(grow(ID, 0), EINVAL);
	assert_fails(grow(ID, PAGE_SIZE), EINVAL);
	assert_fails(grow(ID, size - PAGE_SIZE), EINVAL);
	assert_fails(grow(ID, size), EINVAL);
	assert_fails(grow(ID, size + 1), EINVAL);
	assert_fails(grow(ID, size + PAGE_SIZE - 1), EINVAL);
	assert_fails(grow(ID, size + PAGE_SIZE / 2), EINVAL);
}

TEST_F(errors, einval_overflow)
{
	const uint64_t top = -(uint64_t)PAGE_SIZE;
	const uint64_t hva = (uintptr_t)self->mem;

	/* Guest addresses wrap. */
	assert_fails(grow(ID, top), EINVAL);
	assert_fails(grow(ID, -GPA), EINVAL);
	assert_fails(grow(ID, -GPA + PAGE_SIZE), EINVAL);
	assert_fails(grow(ID, 1UL << 63), EINVAL);
	/* Host addresses wrap, or leave user space. */
	assert_fails(grow(ID, -hva), EINVAL);
	assert_fails(grow(ID, -hva + PAGE_SIZE), EINVAL);
	assert_fails(grow(ID, (1UL << 47) - hva + PAGE_SIZE), EINVAL);
	/* More pages than fit in 32 bits: sizes that truncate to good ones. */
	assert_fails(grow(ID, (1UL << 44) + (PAGES + 1) * PAGE_SIZE), EINVAL);
}

/* Slots elsewhere, where only one thing is in the way. */
TEST_F(errors, einval_too_many_pages)
{
	void *low = (void *)(16UL << 40);
	const uint32_t id = 20;
	uint64_t gpa;

	TEST_ASSERT_EQ(slot_set(self->vm, id, 0, 16 * GIGA_SIZE, PAGE_SIZE, low),
		       0);
	assert_fails(grow(id, (1UL << 31) * PAGE_SIZE), EINVAL);
	assert_fails(grow(id, ((1UL << 31) + 1) * PAGE_SIZE), EINVAL);
	TEST_ASSERT_EQ(slot_set(self->vm, id, 0, 16 * GIGA_SIZE, 0, low), 0);

	/* KVM says where the highest guest frame is. */
	for (gpa = 1UL << 52; gpa > 16 * GIGA_SIZE; gpa /= 2) {
		if (!slot_set(self->vm, id, 0, gpa - 2 * PAGE_SIZE, PAGE_SIZE,
			      low))
			break;
	}
	ksft_print_msg("guest addresses end at %#lx\n", gpa);
	assert_fails(grow(id, 3 * PAGE_SIZE), EINVAL);
	assert_fails(grow(id, GIGA_SIZE), EINVAL);
	slot_assert(self->vm, id, 0, gpa - 2 * PAGE_SIZE, PAGE_SIZE, low);
}

TEST_F(errors, enoent)
{
	const uint64_t size = (PAGES + 1) * PAGE_SIZE;

	assert_fails(grow(ID + 10, size), ENOENT);
	assert_fails(grow(kvm_check_cap(KVM_CAP_NR_MEMSLOTS) - 1, size),
		     ENOENT);
	if (kvm_has_cap(KVM_CAP_MULTI_ADDRESS_SPACE))
		assert_fails(grow(SLOT(1, ID), size), ENOENT);

	/* A slot that was. */
	TEST_ASSERT_EQ(slot_set(self->vm, 30, 0, 16 * GIGA_SIZE, PAGE_SIZE,
				self->mem), 0);
	TEST_ASSERT_EQ(slot_set(self->vm, 30, 0, 16 * GIGA_SIZE, 0, self->mem),
		       0);
	assert_fails(grow(30, size), ENOENT);
}

TEST_F(errors, eexist)
{
	const uint64_t behind = PAGES_FREE * PAGE_SIZE;

	/* By one page, in the middle, to the end, and over it. */
	assert_fails(grow(ID, behind + PAGE_SIZE), EEXIST);
	assert_fails(grow(ID, behind + HUGE_SIZE / 2), EEXIST);
	assert_fails(grow(ID, behind + HUGE_SIZE), EEXIST);
	assert_fails(grow(ID, behind + 16 * HUGE_SIZE), EEXIST);
}

static int unknown_ioctl(int dev, unsigned long request)
{
	char arg[256] = { 0 };

	return ioctl(dev, request, arg) ? errno : 0;
}

TEST_F(errors, enotty_is_not_counted)
{
	static const struct {
		uint64_t op;
		unsigned long request;
	} ops[] = {
		{ KVM_MEMSLOT_OP_GROW, KVM_MEMSLOT_GROW },
		{ KVM_MEMSLOT_OP_SHRINK, KVM_MEMSLOT_SHRINK },
		{ KVM_MEMSLOT_OP_SPLIT, KVM_MEMSLOT_SPLIT },
		{ KVM_MEMSLOT_OP_MERGE, KVM_MEMSLOT_MERGE },
		{ KVM_MEMSLOT_OP_SET_READONLY, KVM_MEMSLOT_SET_READONLY },
	};
	int i;

	TEST_ASSERT_EQ(unknown_ioctl(self->dev, _IO(KVMIO, 0xf0)), ENOTTY);
	TEST_ASSERT_EQ(unknown_ioctl(self->dev, _IO(KVMIO, 0xf1)), ENOTTY);
	TEST_ASSERT_EQ(unknown_ioctl(self->dev, _IOW(KVMIO, 0xf6, char[16])),
		       ENOTTY);
	/* The right number with another size or direction is another call. */
	TEST_ASSERT_EQ(unknown_ioctl(self->dev, _IOW(KVMIO, 0xf1, char[24])),
		       ENOTTY);
	TEST_ASSERT_EQ(unknown_ioctl(self->dev, _IOR(KVMIO, 0xf1, char[16])),
		       ENOTTY);
	TEST_ASSERT_EQ(unknown_ioctl(self->dev, KVM_RUN), ENOTTY);

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		if (memslot_ops_has(ops[i].op))
			continue;
		TEST_ASSERT_EQ(unknown_ioctl(self->dev, ops[i].request), ENOTTY);
	}
	memslot_ops_assert_stats(self->dev, 0, 0, 0);
	assert_unchanged();
}

/* A child has the fd, but not the memory. */
TEST_F(errors, eio_from_another_process)
{
	int status, pid = fork();

	if (!pid)
		_exit(slot_grow(self->dev, ID, (PAGES + 1) * PAGE_SIZE));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status),
		    "the child ended strangely: %#x", status);
	TEST_ASSERT(WEXITSTATUS(status) == EIO,
		    "another process's GROW gives %s",
		    strerror(WEXITSTATUS(status)));
	memslot_ops_assert_stats(self->dev, 0, 0, 0);
	assert_unchanged();
}

/* Be they those of an L2, or for want of the TDP MMU. */
TEST_F(errors, not_refused_for_shadow_pages)
{
	const struct kvm_memslot_cut cut = {
		.offset = PAGES * PAGE_SIZE,
		.slot = 30,
	};

	REQUIRE_ALL_OPS();
	TEST_ASSERT(memslot_ops_features(self->dev) &
		    KVM_MEMSLOT_FEATURE_SHADOW_PAGING,
		    "the module does not say that it handles shadow paging");
	if (host_has_tdp_mmu()) {
		REQUIRE(nested_is_possible(), "no nested SVM");
		nested_run(nested_add(self->vm, 1, 0));
	}
	assert_unchanged();

	TEST_ASSERT_EQ(grow(ID, (PAGES + 1) * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_split(self->dev, ID, 1, &cut), 0);
	TEST_ASSERT_EQ(slot_set_readonly(self->dev, cut.slot, true), 0);
	TEST_ASSERT_EQ(guest_reads(self->vcpu, self->where, PAGES),
		       0xfeed0000 + PAGES);
	TEST_ASSERT_EQ(slot_set_readonly(self->dev, cut.slot, false), 0);
	TEST_ASSERT_EQ(slot_merge(self->dev, ID, 1, &cut.slot), 0);
	TEST_ASSERT_EQ(slot_shrink(self->dev, ID, PAGES * PAGE_SIZE, NULL), 0);
	assert_unchanged();
	memslot_ops_assert_stats(self->dev, 6, 2, 0);
}

/* Private memory: no slot of such a VM. */
TEST(eopnotsupp_private_memory)
{
	struct kvm_vm *vm;
	char *mem;
	int dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM),
		"no VMs with private memory");
	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	dev = memslot_ops_open(vm);
	mem = host_map(RANGE, HUGE_SIZE, 0, HOST_PAGES_4K);

	TEST_ASSERT_EQ(slot_set(vm, ID, 0, GPA, PAGE_SIZE, mem), 0);
	TEST_ASSERT_EQ(slot_grow(dev, ID, 2 * PAGE_SIZE), EOPNOTSUPP);
	slot_assert(vm, ID, 0, GPA, PAGE_SIZE, mem);
	memslot_ops_assert_stats(dev, 0, 0, 1);
	close(dev);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
