// SPDX-License-Identifier: GPL-2.0
/*
 * A module that was built for another release of the kernel's series is refused,
 * and says so.
 *
 * The kernel compares what the module was built against, symbol by symbol, and
 * not what those symbols do; and it can be told not to.  So the module looks at
 * the release itself, before it touches KVM.
 */
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "harness.h"

#include "kvm_util.h"

#include "memslot_ops.h"

/* As in the kernel's linux/module.h, which its tools/ replace. */
#define MODULE_INIT_IGNORE_MODVERSIONS	1
#define MODULE_INIT_IGNORE_VERMAGIC	2

#define KO	"kvm_memslot_ops.ko"
#define TAG	"vermagic="

FIXTURE(refused) {
	int ko;
	/* The kernel's log, from here on. */
	int log;
	char line[256];
};

/* What release the module says that it is for. */
static void read_release(int ko, char *release, size_t size)
{
	struct stat stat;
	char *map, *at;

	TEST_ASSERT_EQ(fstat(ko, &stat), 0);
	map = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, ko, 0);
	TEST_ASSERT(map != MAP_FAILED, "cannot map " KO);
	at = memmem(map, stat.st_size, TAG, strlen(TAG));
	TEST_ASSERT(at, KO " names no release");
	at += strlen(TAG);
	snprintf(release, size, "%.*s", (int)strcspn(at, " "), at);
	munmap(map, stat.st_size);
}

FIXTURE_SETUP(refused)
{
	struct utsname running;
	char release[65];

	self->ko = open(KO, O_RDONLY | O_CLOEXEC);
	TEST_ASSERT(self->ko >= 0, "there is no " KO);
	read_release(self->ko, release, sizeof(release));
	uname(&running);
	TEST_ASSERT(strcmp(release, running.release),
		    KO " is for this very kernel, %s", release);
	snprintf(self->line, sizeof(self->line),
		 "kvm_memslot_ops: built for Linux %s, this is Linux %s: build it for this kernel\n",
		 release, running.release);

	self->log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	TEST_ASSERT(self->log >= 0 && !lseek(self->log, 0, SEEK_END),
		    "cannot read the kernel's log");
}

FIXTURE_TEARDOWN(refused)
{
	close(self->log);
	close(self->ko);
}

static int load(int ko, int flags)
{
	return syscall(SYS_finit_module, ko, "", flags) ? errno : 0;
}

/* Counts what the log says of that kind, and prints all that is new in it. */
static int count_in_log(int log, const char *text)
{
	char record[8192], *message;
	ssize_t size;
	int count = 0;

	while ((size = read(log, record, sizeof(record) - 1)) > 0) {
		record[size] = 0;
		message = strchr(record, ';') + 1;
		ksft_print_msg("%.*s\n", (int)strcspn(message, "\n"), message);
		count += !strncmp(message, text, strlen(text));
	}
	TEST_ASSERT(size < 0 && errno == EAGAIN, "the log breaks off");
	return count;
}

TEST_F(refused, by_the_kernel)
{
	int err = load(self->ko, 0);

	TEST_ASSERT(err == ENOEXEC || err == EINVAL, "loading: %s",
		    strerror(err));
	TEST_ASSERT(count_in_log(self->log, "kvm_memslot_ops: disagrees about version of symbol "),
		    "the kernel does not say why");
	TEST_ASSERT(!memslot_ops_present(), "the device is there");
}

TEST_F(refused, by_the_module)
{
	int err = load(self->ko, MODULE_INIT_IGNORE_MODVERSIONS |
				 MODULE_INIT_IGNORE_VERMAGIC);

	TEST_ASSERT(err == ENOEXEC, "loading by force: %s", strerror(err));
	TEST_ASSERT(count_in_log(self->log, self->line) == 1,
		    "the log lacks: %s", self->line);
	TEST_ASSERT(!memslot_ops_present(), "the device is there");
}

TEST_HARNESS_MAIN
