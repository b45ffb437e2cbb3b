// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <stdatomic.h>

#include "kvm_util.h"
#include "processor.h"

#include "interrupts.h"
#include "level.h"
#include "probe.h"

#define PORT_DONE	0x30
#define PORT_INS	0x31

/* What a vCPU is told, and what it tells; the guest's copy is in a page. */
struct note {
	uint64_t how;
	uint64_t gva;
	uint64_t value;
	uint64_t nr_ranges;		/* to loop over; 0: one access */
	struct probe_range ranges[PROBE_MAX_RANGES];
	uint64_t mmio;
	uint64_t stop;
	uint64_t rounds;
};

/* ----------------------------------------------------------- the guest */

static void guest_access(struct note *n, uint64_t gva, uint64_t value)
{
	void *to = (void *)gva, *from = (void *)READ_ONCE(n->mmio);
	uint64_t one = 1;

	switch (READ_ONCE(n->how)) {
	case PROBE_READ:
		WRITE_ONCE(n->value, READ_ONCE(*(uint64_t *)to));
		break;
	case PROBE_WRITE:
		WRITE_ONCE(*(uint64_t *)to, value);
		break;
	case PROBE_INS:
		asm volatile("rep insb" : "+D"(to), "+c"(one)
			     : "d"(PORT_INS) : "memory");
		break;
	case PROBE_MOVS:
		asm volatile("movsb" : "+D"(to), "+S"(from) : : "memory");
		break;
	}
}

/* Once through all pages, or until it is told to stop. */
static void guest_round(struct note *n, int id, uint32_t serial)
{
	uint64_t i, k, gva;

	for (i = 0; i < n->nr_ranges; i++) {
		for (k = 0; k < n->ranges[i].nr && !READ_ONCE(n->stop); k++) {
			gva = n->ranges[i].gpa +
			      k * n->ranges[i].stride * PAGE_SIZE;
			guest_access(n, gva + 8 * id,
				     gva / PAGE_SIZE << 32 | serial);
		}
	}
}

static void guest_code(struct note *n, int id)
{
	uint64_t serial = 0;

	for (;;) {
		if (!n->nr_ranges)
			guest_access(n, n->gva, n->value);
		while (n->nr_ranges && !READ_ONCE(n->stop)) {
			guest_round(n, id, ++serial);
			WRITE_ONCE(n->rounds, n->rounds + 1);
		}
		asm volatile("outb %%al, %0" : : "N"(PORT_DONE), "a"(0)
			     : "memory");
	}
}

/* ------------------------------------------------------------ the host */

struct prober {
	struct probe *p;
	struct kvm_vcpu *vcpu;
	struct note *note;
	struct counter faults;
	pthread_t thread;
	bool has_thread, loops;
	atomic_bool over;
	struct probe_result result;
};

struct probe {
	struct probe_config config;
	struct kvm_vm *vm;
	struct prober prober[PROBE_MAX_VCPUS];
	atomic_ulong reads, writes, wrong;
	pthread_mutex_t lock;		/* of the next two */
	uint64_t low, high;
};

struct kvm_vm *probe_vm(struct probe *p)
{
	return p->vm;
}

struct kvm_vcpu *probe_vcpu(struct probe *p, int id)
{
	return p->prober[id].vcpu;
}

static void handle_mmio(struct prober *r)
{
	struct kvm_run *run = r->vcpu->run;
	uint64_t gpa = run->mmio.phys_addr, data = 0;
	struct probe *p = r->p;

	if (run->mmio.is_write) {
		memcpy(&data, run->mmio.data, run->mmio.len);
		r->result.nr_writes++;
		r->result.gpa = gpa;
		r->result.data = data;
		r->result.len = run->mmio.len;
	} else {
		memcpy(run->mmio.data, &r->note->value, run->mmio.len);
		r->result.nr_reads++;
	}
	if (!r->loops)
		return;

	if (run->mmio.is_write)
		p->writes++;
	else
		p->reads++;
	if (run->mmio.is_write &&
	    (run->mmio.len != 8 || data >> 32 != gpa / PAGE_SIZE))
		p->wrong++;
	pthread_mutex_lock(&p->lock);
	p->low = min(p->low, gpa);
	p->high = max(p->high, gpa);
	pthread_mutex_unlock(&p->lock);
}

/* Until the guest says that it has done what it was told. */
static void *prober_run(void *arg)
{
	struct prober *r = arg;
	struct kvm_run *run = r->vcpu->run;

	for (;;) {
		if (__vcpu_run(r->vcpu)) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			r->result.err = errno;
			break;
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			handle_mmio(r);
			continue;
		}
		if (run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
			r->result.ring_full = true;
			break;
		}
		TEST_ASSERT(run->exit_reason == KVM_EXIT_IO,
			    "vCPU %d left with %s", r->vcpu->id,
			    exit_reason_str(run->exit_reason));
		if (run->io.port == PORT_DONE)
			break;
		memcpy((void *)run + run->io.data_offset, &r->note->value,
		       run->io.size * run->io.count);
	}
	r->over = true;
	return NULL;
}

static void prepare(struct prober *r, enum probe_how how, uint64_t gpa,
		    uint64_t value)
{
	TEST_ASSERT(!r->has_thread, "vCPU %d is busy", r->vcpu->id);
	r->note->how = how;
	r->note->gva = gpa;
	r->note->value = value;
	r->note->nr_ranges = 0;
	r->note->stop = 0;
	r->loops = false;
	r->over = false;
	r->result = (struct probe_result) { 0 };
}

struct probe_result probe_access(struct probe *p, int id, enum probe_how how,
				 uint64_t gpa, uint64_t value)
{
	struct prober *r = &p->prober[id];

	prepare(r, how, gpa, value);
	prober_run(r);
	r->result.value = r->note->value;
	return r->result;
}

struct probe_result probe_go_on(struct probe *p, int id)
{
	struct prober *r = &p->prober[id];

	TEST_ASSERT(r->result.ring_full, "vCPU %d has nothing to end", id);
	r->over = false;
	r->result = (struct probe_result) { 0 };
	prober_run(r);
	return r->result;
}

bool probe_ring_is_full(struct probe *p, int id)
{
	return p->prober[id].result.ring_full;
}

uint64_t probe_read(struct probe *p, uint64_t gpa)
{
	struct probe_result result = probe_access(p, 0, PROBE_READ, gpa, 0);

	TEST_ASSERT(!result.nr_reads && !result.err,
		    "a read at %#lx came out: %d times as MMIO, error %d", gpa,
		    result.nr_reads, result.err);
	return result.value;
}

void probe_write(struct probe *p, uint64_t gpa, uint64_t value)
{
	struct probe_result result = probe_access(p, 0, PROBE_WRITE, gpa, value);

	TEST_ASSERT(!result.nr_writes && !result.err,
		    "a write at %#lx came out: %d times as MMIO, error %d", gpa,
		    result.nr_writes, result.err);
}

bool probe_is_mmio(struct probe *p, uint64_t gpa)
{
	struct probe_result result = probe_access(p, 0, PROBE_READ, gpa, 0);

	TEST_ASSERT(!result.err, "a read at %#lx gives error %d", gpa,
		    result.err);
	return result.nr_reads;
}

static void start_thread(struct prober *r)
{
	r->has_thread = true;
	pthread_create(&r->thread, NULL, prober_run, r);
}

void probe_begin(struct probe *p, int id, enum probe_how how, uint64_t gpa,
		 uint64_t value)
{
	prepare(&p->prober[id], how, gpa, value);
	start_thread(&p->prober[id]);
}

bool probe_is_over(struct probe *p, int id)
{
	return p->prober[id].over;
}

struct probe_result probe_end(struct probe *p, int id)
{
	struct prober *r = &p->prober[id];

	pthread_join(r->thread, NULL);
	r->has_thread = false;
	r->result.value = r->note->value;
	return r->result;
}

void probe_loop(struct probe *p, int id, enum probe_how how, uint64_t gpa,
		uint64_t nr)
{
	const struct probe_range range = { .gpa = gpa, .nr = nr, .stride = 1 };

	probe_loop_ranges(p, id, how, &range, 1);
}

void probe_loop_ranges(struct probe *p, int id, enum probe_how how,
		       const struct probe_range *ranges, size_t nr)
{
	struct prober *r = &p->prober[id];

	TEST_ASSERT(nr && nr <= PROBE_MAX_RANGES, "%lu ranges", nr);
	prepare(r, how, 0, 0);
	memcpy(r->note->ranges, ranges, nr * sizeof(*ranges));
	r->note->nr_ranges = nr;
	r->loops = true;
	vcpu_allow_interrupts(r->vcpu, interrupts_wanted());
	start_thread(r);
}

struct wait_rounds {
	struct probe *p;
	uint64_t until[PROBE_MAX_VCPUS];
};

static bool went_round(void *arg)
{
	struct wait_rounds *wait = arg;
	int i;

	for (i = 0; i < wait->p->config.nr_vcpus; i++) {
		struct prober *r = &wait->p->prober[i];

		if (!r->has_thread || !r->loops)
			continue;
		TEST_ASSERT(!r->over, "vCPU %d died: %s", i,
			    strerror(r->result.err));
		if (READ_ONCE(r->note->rounds) < wait->until[i])
			return false;
	}
	return true;
}

void probe_wait(struct probe *p, uint64_t times)
{
	struct wait_rounds wait = { .p = p };
	int i;

	/* The round that is under way does not count. */
	for (i = 0; i < p->config.nr_vcpus; i++)
		wait.until[i] = READ_ONCE(p->prober[i].note->rounds) + times + 1;
	TEST_ASSERT(host_wait(went_round, &wait), "the vCPUs stand still");
}

void probe_stop(struct probe *p)
{
	int i;

	for (i = 0; i < p->config.nr_vcpus; i++) {
		struct prober *r = &p->prober[i];

		if (!r->has_thread || !r->loops)
			continue;
		WRITE_ONCE(r->note->stop, 1);
		probe_end(p, i);
		vcpu_allow_interrupts(r->vcpu, p->config.interrupts);
		TEST_ASSERT(!r->result.err, "vCPU %d: KVM_RUN fails: %s", i,
			    strerror(r->result.err));
	}
}

struct probe_exits probe_exits(struct probe *p)
{
	struct probe_exits exits = {
		.reads = p->reads,
		.writes = p->writes,
		.wrong = p->wrong,
	};

	pthread_mutex_lock(&p->lock);
	exits.low = p->low;
	exits.high = p->high;
	pthread_mutex_unlock(&p->lock);
	return exits;
}

void probe_forget_exits(struct probe *p)
{
	pthread_mutex_lock(&p->lock);
	p->reads = 0;
	p->writes = 0;
	p->low = -1UL;
	p->high = 0;
	pthread_mutex_unlock(&p->lock);
}

uint64_t probe_faults(struct probe *p)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < p->config.nr_vcpus; i++)
		sum += counter_read(&p->prober[i].faults);
	return sum;
}

struct probe *probe_create(const struct probe_config *config)
{
	struct probe *p = calloc(1, sizeof(*p));
	/* One frame more, for MMIO. */
	uint64_t size = align_up(config->size, HUGE_SIZE) + HUGE_SIZE;
	int i;

	TEST_ASSERT(config->nr_vcpus <= PROBE_MAX_VCPUS, "too many vCPUs");
	p->config = *config;
	pthread_mutex_init(&p->lock, NULL);
	probe_forget_exits(p);

	host_quiet();
	/* The library makes room for one page in 256 of these, for page tables. */
	p->vm = __vm_create(VM_SHAPE_DEFAULT, config->nr_vcpus,
			    size / HUGE_SIZE + 256 * config->program_pages);
	if (config->ring_size)
		vm_enable_dirty_ring(p->vm, config->ring_size);
	virt_map_level(p->vm, PROBE_GPA, PROBE_GPA, size, PG_LEVEL_2M);
	for (i = 0; i < config->nr_vcpus; i++) {
		struct prober *r = &p->prober[i];
		vm_vaddr_t note = vm_vaddr_alloc_page(p->vm);

		r->p = p;
		r->vcpu = level_vcpu_add(p->vm, i, guest_code);
		r->note = addr_gva2hva(p->vm, note);
		r->note->mmio = PROBE_GPA + size - PAGE_SIZE;
		vcpu_args_set(r->vcpu, 2, note, i);
		vcpu_allow_interrupts(r->vcpu, config->interrupts);
		r->faults = counter_open(vcpu_get_stats_fd(r->vcpu), "pf_taken");
	}
	return p;
}

void probe_free(struct probe *p)
{
	int i;

	probe_stop(p);
	for (i = 0; i < p->config.nr_vcpus; i++)
		close(p->prober[i].faults.fd);
	kvm_vm_free(p->vm);
	free(p);
}
