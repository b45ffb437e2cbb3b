// SPDX-License-Identifier: GPL-2.0
/*
 * Operations while KVM fetches a page of the host's asynchronously, as it does
 * for guests that have interrupts enabled: a worker sleeps until the page is
 * there, and nothing that an operation waits for.  The vCPU halts meanwhile, or
 * its guest is told and does something else.  When the page is there KVM maps
 * it, by what the slots are then.
 */
#include <asm/kvm_para.h>
#include <sys/mman.h>

#include "harness.h"

#include "apic.h"
#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "host.h"
#include "memslot_ops.h"
#include "probe.h"

#define FILL		0x5a
#define FILLED		0x5a5a5a5a5a5a5a5aUL
#define VALUE		0x1234567890abcdefUL
#define READY_VECTOR	0xf0

/* It stays, and can be read, whatever changes. */
#define BUSY_PAGE	2

/* ------------------------------------------------------------- the guest */

static struct kvm_vcpu_pv_apf_data *guest_data;
static uint64_t nr_missing, nr_ready, nr_rounds;

/* The page is not present: does something else until it is. */
static void guest_missing(struct ex_regs *regs)
{
	uint64_t *busy = (void *)(PROBE_GPA + BUSY_PAGE * PAGE_SIZE);

	GUEST_ASSERT(READ_ONCE(guest_data->flags) == KVM_PV_REASON_PAGE_NOT_PRESENT);
	WRITE_ONCE(guest_data->flags, 0);
	nr_missing++;

	asm volatile("sti" : : : "memory");
	while (READ_ONCE(nr_ready) != nr_missing) {
		READ_ONCE(*busy);
		WRITE_ONCE(nr_rounds, nr_rounds + 1);
		cpu_relax();
	}
	asm volatile("cli" : : : "memory");
}

static void guest_ready(struct ex_regs *regs)
{
	/* Everything is ready when KVM begins to tell. */
	if (READ_ONCE(guest_data->token) != ~0U)
		WRITE_ONCE(nr_ready, nr_ready + 1);
	WRITE_ONCE(guest_data->token, 0);
	wrmsr(MSR_KVM_ASYNC_PF_ACK, 1);
	x2apic_write_reg(APIC_EOI, 0);
}

/* -------------------------------------------------------------- the host */

struct world {
	struct probe *p;
	struct kvm_vm *vm;
	char *mem;
	int dev, uffd;
	bool told;
};

FIXTURE(async_pf) {
	struct world w;
};

FIXTURE_VARIANT(async_pf) {
	bool told;
};

FIXTURE_VARIANT_ADD(async_pf, vcpu_halts) {
	.told = false,
};

FIXTURE_VARIANT_ADD(async_pf, guest_is_told) {
	.told = true,
};

/* As a guest would do when it boots. */
static void tell_guest(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	vm_vaddr_t data = vm_vaddr_alloc_page(vm);
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;

	vm_install_exception_handler(vm, PF_VECTOR, guest_missing);
	vm_install_exception_handler(vm, READY_VECTOR, guest_ready);
	memset(addr_gva2hva(vm, data), 0, sizeof(*guest_data));
	write_guest_global(vm, guest_data, (void *)data);

	vcpu_sregs_get(vcpu, &sregs);
	sregs.apic_base |= X2APIC_ENABLE;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	*(uint32_t *)&lapic.regs[APIC_SPIV] |= APIC_SPIV_APIC_ENABLED;
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);

	vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_INT, READY_VECTOR);
	vcpu_set_msr(vcpu, MSR_KVM_ASYNC_PF_EN,
		     addr_gva2gpa(vm, data) | KVM_ASYNC_PF_ENABLED |
		     KVM_ASYNC_PF_SEND_ALWAYS | KVM_ASYNC_PF_DELIVERY_AS_INT);
}

FIXTURE_SETUP(async_pf)
{
	const struct probe_config config = {
		.nr_vcpus = 1,
		.size = CHANGE_SIZE,
		.interrupts = true,
	};
	struct world *w = &self->w;

	w->p = NULL;
	REQUIRE_ALL_OPS();
	w->p = probe_create(&config);
	w->vm = probe_vm(w->p);
	w->dev = memslot_ops_open(w->vm);
	w->uffd = uffd_open();
	w->mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	memset(w->mem, FILL, CHANGE_SIZE);
	w->told = variant->told;
	if (w->told)
		tell_guest(w->vm, probe_vcpu(w->p, 0));
}

FIXTURE_TEARDOWN(async_pf)
{
	struct world *w = &self->w;

	if (!w->p)
		return;
	close(w->dev);
	probe_free(w->p);
	close(w->uffd);
	munmap(w->mem, CHANGE_SIZE);
}

struct progress {
	struct kvm_vm *vm;
	uint64_t until;
};

static bool goes_round(void *arg)
{
	struct progress *progress = arg;

	sync_global_from_guest(progress->vm, nr_rounds);
	return nr_rounds >= progress->until;
}

/* The guest does something else, and what stays is there. */
static void await_rounds(struct kvm_vm *vm)
{
	struct progress progress = { .vm = vm, .until = ~0UL };

	goes_round(&progress);
	progress.until = nr_rounds + 100;
	TEST_ASSERT(host_wait(goes_round, &progress),
		    "the guest was not told, or cannot go on");
}

/* A fault of @page is under way in @c, and is resolved when that is over. */
static void change_amid_fault(struct world *w, const struct change *c,
			      uint64_t page, enum probe_how how)
{
	struct change_call call = { c, w->dev };
	char *at = w->mem + page * PAGE_SIZE;
	bool write = how == PROBE_WRITE;
	uint64_t gpa = PROBE_GPA + page * PAGE_SIZE;
	struct probe_result r;
	struct async op;
	bool lands;

	layout_create(w->vm, &c->before, PROBE_GPA, w->mem);
	probe_read(w->p, PROBE_GPA + BUSY_PAGE * PAGE_SIZE);
	madvise(at, PAGE_SIZE, MADV_DONTNEED);
	TEST_ASSERT(uffd_hold(w->uffd, at, PAGE_SIZE, false),
		    "userfaultfd does not hold pages");

	probe_begin(w->p, 0, how, gpa, VALUE);
	uffd_wait_for_fault(w->uffd, at);
	if (w->told)
		await_rounds(w->vm);
	async_start(&op, change_call, &call);
	TEST_ASSERT(host_wait(async_is_done, &op),
		    "%s waits for a page of the host's, which a worker fetches",
		    c->name);
	async_must_succeed(&op, c->name);
	if (w->told)
		await_rounds(w->vm);
	TEST_ASSERT(!probe_is_over(w->p, 0),
		    "%s, page %lu: the vCPU did not wait for it", c->name, page);
	uffd_resolve(w->uffd, at, false, FILL);
	r = probe_end(w->p, 0);
	uffd_release(w->uffd, at, PAGE_SIZE);

	lands = layout_has(&c->after, page) &&
		(!write || layout_is_writable(&c->after, page));
	TEST_ASSERT(!r.err, "%s, page %lu: KVM_RUN: %s", c->name, page,
		    strerror(r.err));
	TEST_ASSERT(r.nr_reads == (!write && !lands) &&
		    r.nr_writes == (write && !lands),
		    "%s, page %lu: %d reads and %d writes came out as MMIO",
		    c->name, page, r.nr_reads, r.nr_writes);
	if (lands && !write)
		TEST_ASSERT(r.value == FILLED, "%s, page %lu: it holds %#lx",
			    c->name, page, r.value);
	TEST_ASSERT(*(uint64_t *)at == (lands && write ? VALUE : FILLED),
		    "%s, page %lu: memory holds %#lx", c->name, page,
		    *(uint64_t *)at);

	layout_assert(w->vm, &c->after, PROBE_GPA, w->mem);
	layout_delete(w->vm, &c->after);
}

/* In what stays, what goes, and what is cut or joined. */
TEST_F(async_pf, changes)
{
	struct world *w = &self->w;
	/* A guest that is told is slow: it never rests. */
	const uint64_t pages[] = {
		CHANGE_CUT - 1, CHANGE_CUT, 7, HUGE_PAGES * 2, CHANGE_PAGES - 1,
	};
	const unsigned int nr_pages = w->told ? 2 : ARRAY_SIZE(pages);
	const struct change *c;
	unsigned int i, nr = 0;

	for (c = changes; c < changes + NR_CHANGES; c++) {
		for (i = 0; i < nr_pages; i++) {
			/* Of read-only slots KVM fetches no page so. */
			if (!layout_is_writable(&c->before, pages[i]))
				continue;
			change_amid_fault(w, c, pages[i], PROBE_READ);
			change_amid_fault(w, c, pages[i], PROBE_WRITE);
			nr += 2;
		}
	}
	if (!w->told)
		return;
	sync_global_from_guest(w->vm, nr_ready);
	TEST_ASSERT(nr_ready == nr, "of %u pages the guest was told of %lu", nr,
		    nr_ready);
}

TEST_HARNESS_MAIN
