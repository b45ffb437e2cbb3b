// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "held_thread.h"

#define DEVICE	"/dev/held_thread"

bool held_thread_possible(void)
{
	return !access(DEVICE, R_OK | W_OK);
}

static int open_device(void)
{
	int dev = open(DEVICE, O_RDWR | O_CLOEXEC);

	TEST_ASSERT(dev >= 0, "cannot open %s: %s", DEVICE, strerror(errno));
	return dev;
}

struct standing {
	struct async *thread;
	const char *function;
};

/* One that is about to sleep still runs, and the stack of one that runs says nothing. */
static bool stands(void *arg)
{
	struct standing *s = arg;

	return async_sleeps(s->thread) && async_stands_in(s->thread, s->function);
}

static void wait_until_held(int dev, struct async *thread, const char *function)
{
	struct standing s = { thread, function };

	TEST_ASSERT(!ioctl(dev, HELD_THREAD_WAIT, 0), "no thread is held: %s",
		    strerror(errno));
	TEST_ASSERT(host_wait_seconds(5, stands, &s),
		    "a thread is held, but not in %s()", function);
}

static void let_go(int dev, struct async *thread, const char *what)
{
	TEST_ASSERT(!thread->done, "%s was not held", what);
	close(dev);
	async_must_succeed(thread, what);
}

static int make_access(void *arg)
{
	struct late_access *l = arg;

	if (ioctl(l->dev, HELD_THREAD_FAULT, syscall(SYS_gettid)))
		return errno;
	l->result = probe_access(l->p, l->id, l->how, l->gpa, l->value);
	return l->result.err;
}

void late_access_begin(struct late_access *l, struct probe *p, int id,
		       enum probe_how how, uint64_t gpa, uint64_t value)
{
	*l = (struct late_access) {
		.p = p,
		.id = id,
		.how = how,
		.gpa = gpa,
		.value = value,
		.dev = open_device(),
	};
	async_start(&l->thread, make_access, l);
	wait_until_held(l->dev, &l->thread, "kvm_mmu_page_fault");
}

struct probe_result late_access_end(struct late_access *l)
{
	let_go(l->dev, &l->thread, "an access");
	return l->result;
}

static int zap(void *arg)
{
	struct late_zap *l = arg;

	return ioctl(l->dev, HELD_THREAD_ZAP, &l->zap) ? errno : 0;
}

void late_zap_begin(struct late_zap *l, struct kvm_vm *vm, uint64_t gpa,
		    uint64_t size)
{
	*l = (struct late_zap) {
		.zap = {
			.vm = vm->fd,
			.start = gpa / PAGE_SIZE,
			.end = (gpa + size) / PAGE_SIZE,
		},
		.dev = open_device(),
	};
	async_start(&l->thread, zap, l);
	wait_until_held(l->dev, &l->thread, "kvm_zap_gfn_range");
}

void late_zap_end(struct late_zap *l)
{
	let_go(l->dev, &l->thread, "a zap");
}
