// SPDX-License-Identifier: GPL-2.0
/*
 * VMs come, grow and go, and leave nothing behind.
 *
 * What the kernel holds is counted before and after many VMs.  Other work goes
 * on beside the test, so the counts need not be equal; but what every other VM,
 * or every tenth operation, left behind would show.
 */
#include <dirent.h>
#include <sys/wait.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "host.h"
#include "memslot_ops.h"

#define NR_VMS		100
#define NR_SLOTS	4
#define NR_GROWS	100
/* Between two slots, in guest and in host addresses. */
#define SPACE		(64UL << 20)
#define GPA		(4 * GIGA_SIZE)

#define MAX_CACHES	1000

static void guest_code(void)
{
	int i;

	for (i = 0; i < NR_SLOTS; i++)
		WRITE_ONCE(*(uint64_t *)(GPA + i * SPACE), i);
	GUEST_DONE();
}

static char *mem;

enum vm_end {
	END_DEVICE_FIRST,
	END_VM_FIRST,
	END_PROCESS,
	NR_ENDS,
};

/* A vCPU that has been in the slots, so that there is more to tear down. */
static void run_guest_once(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	struct ucall uc;
	int i;

	for (i = 0; i < NR_SLOTS; i++)
		virt_map(vm, GPA + i * SPACE, GPA + i * SPACE, 1);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_DONE, "the guest failed");
}

static void one_vm(bool with_vcpu, enum vm_end end)
{
	uint64_t size[NR_SLOTS] = { 0 };
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	int dev, i, slot;

	vm = with_vcpu ? vm_create_with_one_vcpu(&vcpu, guest_code) :
			 vm_create_barebones();
	dev = memslot_ops_open(vm);

	for (slot = 0; slot < NR_SLOTS; slot++) {
		size[slot] = host_random_between(1, 1000);
		TEST_ASSERT_EQ(slot_set(vm, 10 + slot, 0, GPA + slot * SPACE,
					size[slot] * PAGE_SIZE,
					mem + slot * SPACE), 0);
	}
	if (with_vcpu)
		run_guest_once(vm, vcpu);
	for (i = 0; i < NR_GROWS; i++) {
		slot = host_random_between(0, NR_SLOTS - 1);
		size[slot] += host_random_between(1, 300);
		TEST_ASSERT_EQ(slot_grow(dev, 10 + slot, size[slot] * PAGE_SIZE),
			       0);
	}

	if (end == END_PROCESS)
		_exit(0);
	if (end == END_DEVICE_FIRST)
		close(dev);
	kvm_vm_free(vm);
	if (end == END_VM_FIRST)
		close(dev);
}

static void vm_of_a_process_that_ends(bool with_vcpu)
{
	int status, pid = fork();

	if (!pid)
		one_vm(with_vcpu, END_PROCESS);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
		    "the VM's process failed with %#x", status);
}

static void many_vms(int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		bool with_vcpu = i % 4 == 3;

		if (i % NR_ENDS == END_PROCESS)
			vm_of_a_process_that_ends(with_vcpu);
		else
			one_vm(with_vcpu, i % NR_ENDS);
	}
}

/* How many areas the kernel has mapped; -1 if it does not say. */
static long count_vmalloc(void)
{
	FILE *file = fopen("/proc/vmallocinfo", "r");
	char line[4096];
	long count = 0;

	if (!file)
		return -1;
	/* Areas that were freed are given back many at a time. */
	while (fgets(line, sizeof(line), file))
		count += !strstr(line, "unpurged");
	fclose(file);
	return count;
}

struct cache {
	char name[64];
	long objects;
};

/*
 * Freed objects that a cache keeps to itself count as used: those of its CPUs,
 * and with KASAN all those that are in quarantine.
 */
static void shrink_caches(void)
{
	DIR *dir = opendir("/sys/kernel/slab");
	struct dirent *entry;
	char path[512];

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink",
			 entry->d_name);
		host_write(path, "1");
	}
	closedir(dir);
}

/* How many objects each slab cache holds. */
static int count_slabs(struct cache *caches)
{
	FILE *file = fopen("/proc/slabinfo", "r");
	char line[4096];
	int nr = 0;

	shrink_caches();
	if (!file)
		return 0;
	while (nr < MAX_CACHES && fgets(line, sizeof(line), file)) {
		/* Areas: count_vmalloc() counts better. kmemleak: forgets late. */
		if (!strncmp(line, "vmap_area ", 10) ||
		    !strncmp(line, "kmemleak_", 9))
			continue;
		if (sscanf(line, "%63s %ld", caches[nr].name,
			   &caches[nr].objects) == 2)
			nr++;
	}
	fclose(file);
	return nr;
}

static long objects_of(const struct cache *caches, int nr, const char *name)
{
	int i;

	for (i = 0; i < nr; i++) {
		if (!strcmp(caches[i].name, name))
			return caches[i].objects;
	}
	return 0;
}

TEST(ten_thousand_grows)
{
	static struct cache before[MAX_CACHES], after[MAX_CACHES];
	long vmalloc_before, vmalloc_after, more;
	int nr_before, nr_after, i;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	host_seed();
	mem = host_map(NR_SLOTS * SPACE, HUGE_SIZE, 0, HOST_PAGES_4K);

	/* What is made once is made now, and caches fill. */
	many_vms(2 * NR_ENDS * 4);

	vmalloc_before = count_vmalloc();
	nr_before = count_slabs(before);
	many_vms(NR_VMS);
	nr_after = count_slabs(after);
	vmalloc_after = count_vmalloc();

	ksft_print_msg("%d VMs, %d GROWs; areas of vmalloc: %ld before, %ld after\n",
		       NR_VMS, NR_VMS * NR_GROWS, vmalloc_before, vmalloc_after);
	TEST_ASSERT(vmalloc_after - vmalloc_before < NR_VMS / 2,
		    "%ld areas of vmalloc were left by %d VMs",
		    vmalloc_after - vmalloc_before, NR_VMS);

	for (i = 0; i < nr_after; i++) {
		more = after[i].objects -
		       objects_of(before, nr_before, after[i].name);
		if (more >= NR_VMS)
			ksft_print_msg("%s: %ld objects more\n", after[i].name,
				       more);
		TEST_ASSERT(more < NR_VMS * NR_GROWS / 10,
			    "%ld objects of %s were left by %d GROWs", more,
			    after[i].name, NR_VMS * NR_GROWS);
	}
	if (vmalloc_before < 0 || !nr_before)
		ksft_print_msg("the kernel does not tell all that it holds\n");
}

TEST_HARNESS_MAIN
