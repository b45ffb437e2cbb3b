// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "slow_notifier.h"

#define DEVICE	"/dev/slow_notifier"

bool slow_notifier_possible(void)
{
	return !access(DEVICE, R_OK | W_OK);
}

void slow_notifier_init(struct slow_notifier *s, size_t size)
{
	*s = (struct slow_notifier) {
		.file = memfd_create("slow_notifier", MFD_CLOEXEC),
		.size = size,
		.dev = -1,
	};
	TEST_ASSERT(s->file >= 0 && !ftruncate(s->file, size),
		    "cannot make a file of %zu bytes", size);
	s->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, s->file, 0);
	TEST_ASSERT(s->mem != MAP_FAILED, "cannot map %zu bytes", size);
}

void slow_notifier_close(struct slow_notifier *s)
{
	close(s->file);
}

/*
 * Where a file changes, those who map it are told, and mmap_lock is left alone. Pages that
 * they wrote to, which are theirs, stay.
 */
static int punch_hole(void *arg)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct slow_notifier *s = arg;

	return fallocate(s->file, mode, 0, s->size) ? errno : 0;
}

void slow_notifier_begin(struct slow_notifier *s)
{
	s->dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(s->dev >= 0, "cannot open %s: %s", DEVICE, strerror(errno));
	TEST_ASSERT(!ioctl(s->dev, SLOW_NOTIFIER_HOLD, s->mem),
		    "notifiers cannot be held: %s", strerror(errno));
	async_start(&s->hole, punch_hole, s);
	TEST_ASSERT(!ioctl(s->dev, SLOW_NOTIFIER_WAIT, 0),
		    "nothing is held: %s", strerror(errno));
}

void slow_notifier_end(struct slow_notifier *s)
{
	TEST_ASSERT(!s->hole.done, "the notifier was not held");
	close(s->dev);
	async_must_succeed(&s->hole, "punching a hole");
}
