// SPDX-License-Identifier: GPL-2.0
/*
 * What zaps holds mmu_lock.  Somebody else who wants it, a vCPU that faults elsewhere for
 * example, waits for a part of that, and not until all is done; and what has been zapped when
 * he gets it, no TLB has any more.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "../modules/lock_waiter.h"
#include "busy.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"

#define DEVICE		"/dev/lock_waiter"

#define BUSY_SLOT	10
#define BUSY_GPA	(4UL << 30)
#define SIZE		(192UL << 20)
#define STEP		(64UL << 20)

FIXTURE(mmu_lock) {
	struct busy *b;
	char *mem;
	int dev, waiter;
};

FIXTURE_SETUP(mmu_lock)
{
	const struct busy_config config = {
		.nr_vcpus = 1,
		.gpa = BUSY_GPA,
		.size = SIZE,
	};

	self->b = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(!access(DEVICE, R_OK | W_OK), "lock_waiter.ko is not loaded");
	REQUIRE(get_nprocs() > 1, "one CPU");

	kvm_pin_this_task_to_pcpu(0);
	self->b = busy_create(&config);
	self->dev = memslot_ops_open(busy_vm(self->b));
	self->mem = host_map(SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	slot_must_set(busy_vm(self->b), BUSY_SLOT, 0, BUSY_GPA, SIZE, self->mem);
	busy_start(self->b);
	busy_wait(self->b);
	busy_stop(self->b);

	self->waiter = open(DEVICE, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(self->waiter >= 0, "cannot open %s: %s", DEVICE, strerror(errno));
	TEST_ASSERT(!ioctl(self->waiter, LOCK_WAITER_START, busy_vm(self->b)->fd),
		    "nobody waits: %s", strerror(errno));
}

FIXTURE_TEARDOWN(mmu_lock)
{
	if (!self->b)
		return;
	close(self->waiter);
	close(self->dev);
	busy_free(self->b);
	munmap(self->mem, SIZE);
}

static void assert_gave_way(int waiter, const char *what)
{
	struct lock_waiter_news news;

	TEST_ASSERT(!ioctl(waiter, LOCK_WAITER_NEWS, &news), "%s: %s", what, strerror(errno));
	ksft_print_msg("%s: %llu pages at once\n", what, news.most);
	TEST_ASSERT(news.most, "%s zapped nothing", what);
	TEST_ASSERT(news.most <= STEP / PAGE_SIZE, "%s kept mmu_lock from others for %llu pages",
		    what, news.most);
	TEST_ASSERT(!news.unflushed, "%s let others have mmu_lock before a flush, %llu times", what,
		    news.unflushed);
}

TEST_F(mmu_lock, protect_gives_way)
{
	TEST_ASSERT_EQ(slot_set_readonly(self->dev, BUSY_SLOT, 1), 0);
	assert_gave_way(self->waiter, "SET_READONLY 1");
}

TEST_F(mmu_lock, shrink_gives_way)
{
	TEST_ASSERT_EQ(slot_shrink(self->dev, BUSY_SLOT, PAGE_SIZE, NULL), 0);
	assert_gave_way(self->waiter, "SHRINK");
}

TEST_HARNESS_MAIN
