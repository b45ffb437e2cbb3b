// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>

#include "kvm_util.h"
#include "processor.h"

#include "tracker.h"

#define DEVICE	"/dev/page_tracker"

static int call(int tracker, unsigned long request, unsigned long arg)
{
	return ioctl(tracker, request, arg) ? errno : 0;
}

static void must(int tracker, unsigned long request, unsigned long arg,
		 const char *what)
{
	int err = call(tracker, request, arg);

	TEST_ASSERT(!err, "a tracker cannot %s: %s", what, strerror(err));
}

bool tracker_possible(void)
{
	return !access(DEVICE, R_OK | W_OK);
}

int tracker_open(struct kvm_vm *vm)
{
	int tracker = open(DEVICE, O_RDWR | O_CLOEXEC);

	TEST_ASSERT(tracker >= 0, "cannot open %s: %s", DEVICE, strerror(errno));
	must(tracker, PAGE_TRACKER_VM, vm->fd, "be made for the VM");
	return tracker;
}

int tracker_call_attach(void *tracker)
{
	return call(*(int *)tracker, PAGE_TRACKER_ATTACH, 0);
}

void tracker_attach(int tracker)
{
	must(tracker, PAGE_TRACKER_ATTACH, 0, "attach");
}

void tracker_detach(int tracker)
{
	must(tracker, PAGE_TRACKER_DETACH, 0, "detach");
}

void tracker_add(int tracker, uint64_t gpa)
{
	must(tracker, PAGE_TRACKER_ADD, gpa / PAGE_SIZE, "begin to track a page");
}

void tracker_remove(int tracker, uint64_t gpa)
{
	must(tracker, PAGE_TRACKER_REMOVE, gpa / PAGE_SIZE, "stop to track a page");
}

struct page_tracker_news tracker_news(int tracker)
{
	struct page_tracker_news news;

	must(tracker, PAGE_TRACKER_NEWS, (unsigned long)&news, "tell");
	return news;
}
