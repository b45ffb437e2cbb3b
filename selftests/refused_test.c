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
#include <sys/utsname.h>

#include "harness.h"

#include "kvm_util.h"

#include "host.h"
#include "memslot_ops.h"
#include "module.h"

#define KO	MODULE_OPS ".ko"
#define TAG	"vermagic="

FIXTURE(refused) {
	/* The kernel's log, from here on. */
	int log;
	char line[256];
};

/* What release the module says that it is for. */
static void read_release(char *release, size_t size)
{
	int ko = open(KO, O_RDONLY | O_CLOEXEC);
	struct stat stat;
	char *map, *at;

	TEST_ASSERT(ko >= 0, "there is no " KO);
	TEST_ASSERT_EQ(fstat(ko, &stat), 0);
	map = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, ko, 0);
	TEST_ASSERT(map != MAP_FAILED, "cannot map " KO);
	at = memmem(map, stat.st_size, TAG, strlen(TAG));
	TEST_ASSERT(at, KO " names no release");
	at += strlen(TAG);
	snprintf(release, size, "%.*s", (int)strcspn(at, " "), at);
	munmap(map, stat.st_size);
	close(ko);
}

FIXTURE_SETUP(refused)
{
	struct utsname running;
	char release[65];

	read_release(release, sizeof(release));
	uname(&running);
	TEST_ASSERT(strcmp(release, running.release),
		    KO " is for this very kernel, %s", release);
	snprintf(self->line, sizeof(self->line),
		 "kvm_memslot_ops: built for Linux %s, this is Linux %s: build it for this kernel",
		 release, running.release);

	self->log = host_log_open();
	TEST_ASSERT(self->log >= 0, "cannot read the kernel's log");
}

FIXTURE_TEARDOWN(refused)
{
	close(self->log);
}

TEST_F(refused, by_the_kernel)
{
	int err = module_load(KO, "", 0);

	TEST_ASSERT(err == ENOEXEC || err == EINVAL, "loading: %s",
		    strerror(err));
	TEST_ASSERT(host_log_count(self->log, MODULE_OPS ": ",
				   "disagrees about version of symbol ", ""),
		    "the kernel does not say why");
	TEST_ASSERT(!memslot_ops_present(), "the device is there");
}

TEST_F(refused, by_the_module)
{
	int err = module_load(KO, "", MODULE_INIT_IGNORE_MODVERSIONS |
				     MODULE_INIT_IGNORE_VERMAGIC);

	TEST_ASSERT(err == ENOEXEC, "loading by force: %s", strerror(err));
	TEST_ASSERT(host_log_count(self->log, self->line, "", "") == 1,
		    "the log lacks: %s", self->line);
	TEST_ASSERT(!memslot_ops_present(), "the device is there");
}

TEST_HARNESS_MAIN
