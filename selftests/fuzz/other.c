// SPDX-License-Identifier: GPL-2.0
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host.h"
#include "kvm_util.h"
#include "memslot_ops.h"
#include "ops.h"
#include "other.h"
#include "processor.h"

#define SIZE		(4 * HUGE_SIZE)
#define GPA		GIGA_SIZE
#define SLOT_ID		2

static int to_receiver = -1;

/* What it is asked for: the descriptor that comes along is tried, or a process is killed. */
struct request {
	bool kill;
	unsigned int usecs, seed;
};

static int try_grow(int dev)
{
	return slot_grow(dev, SLOT_ID, 64 * GIGA_SIZE);
}

/* How the process ends. */
static int end_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		TEST_ASSERT(errno == EINTR, "waiting: %s", strerror(errno));
	return status;
}

/* There and back, in a VM of its own, for ever. */
static void victim_main(unsigned int seed)
{
	const struct kvm_memslot_cut cut = {
		.offset = SIZE / 4,
		.slot = SLOT_ID + 1,
	};
	struct kvm_vm *vm = vm_create_barebones();
	const uint32_t second = cut.slot;
	int dev = memslot_ops_open(vm);
	void *mem = host_map(SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	uint32_t flags = seed & 1 ? KVM_MEM_LOG_DIRTY_PAGES : 0;

	slot_must_set(vm, SLOT_ID, flags, GPA, SIZE / 2, mem);
	for (;;) {
		slot_split(dev, SLOT_ID, 1, &cut);
		slot_merge(dev, SLOT_ID, 1, &second);
		slot_grow(dev, SLOT_ID, SIZE);
		slot_set_readonly(dev, SLOT_ID, true);
		slot_set_readonly(dev, SLOT_ID, false);
		slot_shrink(dev, SLOT_ID, SIZE / 2, seed & 1 ? mem : NULL);
	}
}

/* Forked here, where there is little to copy. Returns how the process ended. */
static int kill_one(const struct request *request)
{
	pid_t pid = fork();

	if (!pid)
		victim_main(request->seed);
	TEST_ASSERT(pid > 0, "cannot fork: %s", strerror(errno));
	usleep(request->usecs);
	kill(pid, SIGKILL);
	return end_of(pid);
}

/* One request after the other; each is answered by an errno, or what became of a process. */
static void receiver_main(int from)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct cmsghdr *cmsg;
	struct iovec iov;
	struct msghdr msg;
	struct request request;
	int dev, err;

	for (;;) {
		iov = (struct iovec) { &request, sizeof(request) };
		msg = (struct msghdr) {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		if (recvmsg(from, &msg, 0) != sizeof(request))
			_exit(0);
		cmsg = CMSG_FIRSTHDR(&msg);
		err = -1;
		if (cmsg) {
			memcpy(&dev, CMSG_DATA(cmsg), sizeof(dev));
			err = try_grow(dev);
			close(dev);
		}
		if (request.kill)
			err = kill_one(&request);
		if (write(from, &err, sizeof(err)) != sizeof(err))
			_exit(1);
	}
}

void other_init(void)
{
	int ends[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends),
		    "no socket");
	if (!fork()) {
		close(ends[0]);
		receiver_main(ends[1]);
	}
	close(ends[1]);
	to_receiver = ends[0];
}

/* libFuzzer has a timer, whose signal ends calls that wait. */
static int answer(void)
{
	int value;

	TEST_ASSERT(TEMP_FAILURE_RETRY(read(to_receiver, &value, sizeof(value))) == sizeof(value),
		    "the other process has died");
	return value;
}

void other_receives(int dev)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct request request = { 0 };
	struct iovec iov = { &request, sizeof(request) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int err;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(dev));
	memcpy(CMSG_DATA(cmsg), &dev, sizeof(dev));
	/* Somebody may have closed it. */
	if (TEMP_FAILURE_RETRY(sendmsg(to_receiver, &msg, 0)) != sizeof(request))
		return;
	err = answer();
	TEST_ASSERT(err == EIO || err == ENOTTY || err == EBADF,
		    "GROW of another process's VM: %s", strerror(err));
}

void other_inherits(int dev, bool killed)
{
	int status, err;
	pid_t pid;

	pid = fork();
	if (!pid) {
		err = try_grow(dev);
		_exit(err != EIO && err != ENOTTY && err != EBADF);
	}
	TEST_ASSERT(pid > 0, "cannot fork: %s", strerror(errno));
	if (killed)
		kill(pid, SIGKILL);
	status = end_of(pid);
	TEST_ASSERT((WIFEXITED(status) && !WEXITSTATUS(status)) ||
		    (killed && WIFSIGNALED(status)),
		    "GROW of the parent's VM: status %#x", status);
}

void other_dies(unsigned int usecs, unsigned int seed)
{
	const struct request request = { true, usecs, seed };
	ssize_t written = TEMP_FAILURE_RETRY(write(to_receiver, &request, sizeof(request)));
	int status;

	TEST_ASSERT(written == sizeof(request), "the other process has died");
	status = answer();
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "the victim ends by itself: status %#x", status);
}
