// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <signal.h>

#include "kvm_util.h"
#include "processor.h"

#include "busy.h"
#include "host.h"
#include "memslot_ops.h"

/* What a vCPU tells the host, on cache lines of its own. */
struct note {
	uint64_t sweeps;
	uint64_t touches;
	uint64_t longest_gap;		/* in TSC cycles; the host resets it */
} __aligned(128);

static struct note notes[BUSY_MAX_VCPUS];	/* the guest's copy is used */

static void guest_code(uint64_t id, uint64_t gva, uint64_t nr, uint64_t writes)
{
	struct note *me = &notes[id];
	uint64_t i, then, now = rdtsc();

	for (;;) {
		for (i = 0; i < nr; i++) {
			uint64_t *word = (void *)(gva + i * PAGE_SIZE);

			if (writes)
				WRITE_ONCE(*word, i);
			else
				READ_ONCE(*word);
			WRITE_ONCE(me->touches, me->touches + 1);
			then = now;
			now = rdtsc();
			if (now - then > READ_ONCE(me->longest_gap))
				WRITE_ONCE(me->longest_gap, now - then);
		}
		WRITE_ONCE(me->sweeps, me->sweeps + 1);
	}
}

struct runner {
	struct busy *b;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	struct counter faults;
};

struct busy {
	struct busy_config config;
	struct kvm_vm *vm;
	struct note *notes;
	struct runner runner[BUSY_MAX_VCPUS];
	uint64_t tsc_khz;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held, stop;
	int nr_held;
};

struct kvm_vm *busy_vm(struct busy *b)
{
	return b->vm;
}

static void stay_out(struct busy *b, struct kvm_run *run)
{
	pthread_mutex_lock(&b->lock);
	b->nr_held++;
	pthread_cond_broadcast(&b->changed);
	while (b->held)
		pthread_cond_wait(&b->changed, &b->lock);
	b->nr_held--;
	pthread_cond_broadcast(&b->changed);
	run->immediate_exit = 0;
	pthread_mutex_unlock(&b->lock);
}

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct busy *b = r->b;
	long nr_cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (b->config.apart && nr_cpus > 1)
		kvm_pin_this_task_to_pcpu(1 + (r - b->runner) % (nr_cpus - 1));
	while (!READ_ONCE(b->stop)) {
		if (READ_ONCE(b->held)) {
			stay_out(b, r->vcpu->run);
			continue;
		}
		/* What comes out is an access to what is not there now, and is made again. */
		__vcpu_run(r->vcpu);
	}
	return NULL;
}

void busy_hold(struct busy *b)
{
	int i;

	pthread_mutex_lock(&b->lock);
	b->held = true;
	for (i = 0; i < b->config.nr_vcpus; i++) {
		b->runner[i].vcpu->run->immediate_exit = 1;
		pthread_kill(b->runner[i].thread, SIGUSR1);
	}
	while (b->nr_held < b->config.nr_vcpus)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

void busy_release(struct busy *b)
{
	pthread_mutex_lock(&b->lock);
	b->held = false;
	pthread_cond_broadcast(&b->changed);
	while (b->nr_held)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void kick(int signo)
{
}

void busy_start(struct busy *b)
{
	int i;

	signal(SIGUSR1, kick);
	for (i = 0; i < b->config.nr_vcpus; i++)
		TEST_ASSERT(!pthread_create(&b->runner[i].thread, NULL, runner_main,
					    &b->runner[i]), "no thread");
}

void busy_stop(struct busy *b)
{
	int i;

	busy_hold(b);
	WRITE_ONCE(b->stop, true);
	busy_release(b);
	for (i = 0; i < b->config.nr_vcpus; i++)
		pthread_join(b->runner[i].thread, NULL);
}

struct sweeps {
	struct busy *b;
	uint64_t until[BUSY_MAX_VCPUS];
};

static bool swept(void *arg)
{
	struct sweeps *s = arg;
	int i;

	for (i = 0; i < s->b->config.nr_vcpus; i++) {
		if (READ_ONCE(s->b->notes[i].sweeps) < s->until[i])
			return false;
	}
	return true;
}

void busy_wait(struct busy *b)
{
	struct sweeps s = { .b = b };
	int i;

	/* The one that is under way may be nearly over. */
	for (i = 0; i < b->config.nr_vcpus; i++)
		s.until[i] = READ_ONCE(b->notes[i].sweeps) + 2;
	TEST_ASSERT(host_wait(swept, &s), "the vCPUs stand still");
}

uint64_t busy_touches(struct busy *b)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < b->config.nr_vcpus; i++)
		sum += READ_ONCE(b->notes[i].touches);
	return sum;
}

uint64_t busy_faults(struct busy *b)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < b->config.nr_vcpus; i++)
		sum += counter_read(&b->runner[i].faults);
	return sum;
}

uint64_t busy_longest_stall(struct busy *b)
{
	uint64_t gap = 0;
	int i;

	for (i = 0; i < b->config.nr_vcpus; i++) {
		gap = max(gap, READ_ONCE(b->notes[i].longest_gap));
		WRITE_ONCE(b->notes[i].longest_gap, 0);
	}
	return gap * 1000000 / b->tsc_khz;
}

static void add_vcpu(struct busy *b, int id)
{
	const struct busy_config *c = &b->config;
	struct kvm_vcpu *vcpu = vm_vcpu_add(b->vm, id, guest_code);

	vcpu_args_set(vcpu, 4, (uint64_t)id, c->gpa, c->size / PAGE_SIZE, (uint64_t)c->writes);
	b->runner[id] = (struct runner) {
		.b = b,
		.vcpu = vcpu,
		.faults = counter_open(vcpu_get_stats_fd(vcpu), "pf_taken"),
	};
}

struct busy *busy_create(const struct busy_config *config)
{
	struct busy *b = calloc(1, sizeof(*b));
	int i;

	TEST_ASSERT(config->nr_vcpus <= BUSY_MAX_VCPUS, "too many vCPUs");
	b->config = *config;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	host_quiet();

	if (!config->nr_vcpus) {
		b->vm = vm_create_barebones();
		return b;
	}
	b->vm = __vm_create(VM_SHAPE_DEFAULT, config->nr_vcpus, config->size / HUGE_SIZE);
	b->tsc_khz = __vm_ioctl(b->vm, KVM_GET_TSC_KHZ, NULL);
	for (i = 0; i < config->nr_vcpus; i++)
		add_vcpu(b, i);
	if (config->size)
		virt_map_level(b->vm, config->gpa, config->gpa, config->size, PG_LEVEL_2M);
	b->notes = addr_gva2hva(b->vm, (vm_vaddr_t)notes);
	memset(b->notes, 0, sizeof(notes));
	return b;
}

void busy_free(struct busy *b)
{
	int i;

	for (i = 0; i < b->config.nr_vcpus; i++)
		close(b->runner[i].faults.fd);
	kvm_vm_free(b->vm);
	free(b);
}
