// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "host.h"
#include "trace.h"

static void *async_main(void *arg)
{
	struct async *a = arg;

	a->tid = syscall(SYS_gettid);
	a->err = a->call(a->arg);
	a->done = true;
	return NULL;
}

static void prepare(struct async *a, int (*call)(void *arg), void *arg)
{
	a->call = call;
	a->arg = arg;
	a->done = false;
	a->tid = 0;
}

void async_start(struct async *a, int (*call)(void *arg), void *arg)
{
	prepare(a, call, arg);
	pthread_create(&a->thread, NULL, async_main, a);
}

static int process_main(void *a)
{
	async_main(a);
	return 0;
}

#define STACK_SIZE	(256UL << 10)

/*
 * KVM lets a process have a VM that has its memory. What belongs to a thread, such as
 * errno, it shares with the caller, so it makes one system call, and that is to be its last.
 */
void async_start_process(struct async *a, int (*call)(void *arg), void *arg)
{
	char *stack = host_map(STACK_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);

	prepare(a, call, arg);
	TEST_ASSERT(clone(process_main, stack + STACK_SIZE,
			  CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, a) > 0,
		    "cannot make a process");
}

void async_kill(struct async *a)
{
	kill(a->tid, SIGKILL);
}

static bool is_dead(void *async)
{
	struct async *a = async;
	int status;

	return waitpid(a->tid, &status, WNOHANG) == a->tid &&
	       WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool async_dies(struct async *a)
{
	return host_wait_seconds(20, is_dead, a);
}

bool async_is_done(void *async)
{
	return ((struct async *)async)->done;
}

int async_join(struct async *a)
{
	pthread_join(a->thread, NULL);
	return a->err;
}

void async_must_succeed(struct async *a, const char *what)
{
	int err = async_join(a);

	TEST_ASSERT(!err, "%s: %s", what, strerror(err));
}

bool async_stands_in(struct async *a, const char *function)
{
	char path[64], stack[4096];
	int err;

	/* A thread that has not said who it is has not come far. */
	if (!a->tid || a->done)
		return false;
	snprintf(path, sizeof(path), "/proc/%1$d/task/%1$d/stack", a->tid);
	err = host_read(path, stack, sizeof(stack));
	TEST_ASSERT(!err || a->done, "cannot read a stack: %s", strerror(err));
	return !err && strstr(stack, function);
}

bool async_sleeps(struct async *a)
{
	char path[64], stat[512], *state;

	if (!a->tid || a->done)
		return false;
	snprintf(path, sizeof(path), "/proc/%1$d/task/%1$d/stat", a->tid);
	if (host_read(path, stat, sizeof(stat)))
		return false;
	state = strrchr(stat, ')');
	return state && !strncmp(state, ") D", 3);
}

struct swap_wait {
	struct async *a;
	int nth;
};

static bool waits_for_readers(void *arg)
{
	struct swap_wait *wait = arg;
	char path[64], stack[4096];

	TEST_ASSERT(!wait->a->done, "the operation did not wait for a vCPU: %s",
		    strerror(wait->a->err));
	if (trace_count("memslot_op_swap") < wait->nth)
		return false;
	snprintf(path, sizeof(path), "/proc/%1$d/task/%1$d/stack",
		 wait->a->tid);
	return host_read(path, stack, sizeof(stack)) || strstr(stack, "srcu") ||
	       strstr(stack, "readers_wait");
}

void async_wait_for_swap(struct async *a, int nth)
{
	struct swap_wait wait = { a, nth };

	TEST_ASSERT(host_wait(waits_for_readers, &wait),
		    "the operation does not swap");
}

int uffd_open(void)
{
	return syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static int uffd_protect(int uffd, void *mem, size_t size, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)mem, size },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
}

bool uffd_hold(int uffd, void *mem, size_t size, bool protected)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, size },
		.mode = protected ? UFFDIO_REGISTER_MODE_WP :
				    UFFDIO_REGISTER_MODE_MISSING,
	};

	/* The second time is one too many, and does no harm. */
	ioctl(uffd, UFFDIO_API, &api);
	return !ioctl(uffd, UFFDIO_REGISTER, &reg) &&
	       (!protected || !uffd_protect(uffd, mem, size, true));
}

void uffd_wait_for_fault(int uffd, void *page)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	TEST_ASSERT(poll(&pfd, 1, 60000) == 1, "nobody faults");
	TEST_ASSERT_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	TEST_ASSERT_EQ(msg.arg.pagefault.address & -PAGE_SIZE, (uintptr_t)page);
}

void uffd_resolve(int uffd, void *page, bool protected, int byte)
{
	static char from[PAGE_SIZE] __aligned(PAGE_SIZE);
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page,
		.src = (uintptr_t)from,
		.len = PAGE_SIZE,
	};

	if (protected) {
		TEST_ASSERT(!uffd_protect(uffd, page, PAGE_SIZE, false),
			    "cannot end the write protection");
		return;
	}
	memset(from, byte, sizeof(from));
	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "cannot resolve the fault");
}

void uffd_release(int uffd, void *mem, size_t size)
{
	struct uffdio_range range = { (uintptr_t)mem, size };

	TEST_ASSERT(!ioctl(uffd, UFFDIO_UNREGISTER, &range),
		    "cannot leave userfaultfd");
}

#define UNREST_SIZE	(32UL << 20)

struct unrest {
	pthread_t thread;
	atomic_bool stop;
	char *mem, *own;
	size_t size;
};

static void *unrest_main(void *arg)
{
	const int rw = PROT_READ | PROT_WRITE;
	struct unrest *u = arg;

	/* It does not matter if there is a hole for a moment. */
	while (!u->stop) {
		mprotect(u->mem, u->size, rw | PROT_EXEC);
		mprotect(u->mem, u->size, rw);
	}
	return NULL;
}

struct unrest *unrest_start(void *mem, size_t size)
{
	struct unrest *u = calloc(1, sizeof(*u));

	u->mem = mem;
	u->size = size;
	if (!mem) {
		u->size = UNREST_SIZE;
		u->own = host_map(u->size, PAGE_SIZE, 0, HOST_PAGES_4K);
		memset(u->own, 1, u->size);
		u->mem = u->own;
	}
	pthread_create(&u->thread, NULL, unrest_main, u);
	return u;
}

void unrest_stop(struct unrest *u)
{
	u->stop = true;
	pthread_join(u->thread, NULL);
	if (u->own)
		munmap(u->own, u->size);
	free(u);
}
