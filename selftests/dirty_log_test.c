// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel tree's own dirty_log_test, unmodified, in each of its modes.
 *
 *	-o	with operations on the slot that it tests: all five before its vCPU
 *		runs; SPLIT and MERGE while it runs, between harvest and reset, and
 *		between KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG. The layout is
 *		the same after each round trip.
 */
#include <sys/wait.h>

#include "kvm_util.h"
#include "processor.h"

#include "dirty_log_seam.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"

#define PIECE(i)	(100 + (i))
#define NR_PIECES	4

static bool with_ops;
static uint64_t nr_ops;

/* The slot that is tested, in pages. */
static struct {
	struct kvm_vm *vm;
	int dev;
	uint32_t id;
	uint64_t nr;
} tested;

static void succeeded(int err, const char *what)
{
	TEST_ASSERT(!err, "%s: %s", what, strerror(err));
	nr_ops++;
}

/* Cuts anywhere, more often than not inside a word of the bitmap. */
static void split_and_merge(void)
{
	struct kvm_memslot_cut cuts[NR_PIECES] = { 0 };
	uint32_t ids[NR_PIECES];
	uint64_t at = 0;
	int i;

	for (i = 0; i < NR_PIECES; i++) {
		at += host_random_between(1, (tested.nr - at) / 2);
		cuts[i].offset = at * PAGE_SIZE;
		cuts[i].slot = PIECE(i);
		ids[i] = PIECE(i);
	}
	succeeded(slot_split(tested.dev, tested.id, NR_PIECES, cuts), "SPLIT");
	succeeded(slot_merge(tested.dev, tested.id, NR_PIECES, ids), "MERGE");
}

void seam_add_region(struct kvm_vm *vm, enum vm_mem_backing_src_type src,
		     uint64_t gpa, uint32_t slot, uint64_t nr, uint32_t flags)
{
	uint64_t less = host_random_between(1, nr - 1);

	vm_userspace_mem_region_add(vm, src, gpa, slot, nr, flags);
	if (!with_ops)
		return;

	tested.vm = vm;
	tested.id = slot;
	tested.nr = nr;
	tested.dev = memslot_ops_open(vm);
	split_and_merge();
	succeeded(slot_shrink(tested.dev, slot, less * PAGE_SIZE, NULL),
		  "SHRINK");
	succeeded(slot_grow(tested.dev, slot, nr * PAGE_SIZE), "GROW");
	succeeded(slot_set_readonly(tested.dev, slot, true), "SET_READONLY 1");
	succeeded(slot_set_readonly(tested.dev, slot, false), "SET_READONLY 0");
}

void seam_get_log(struct kvm_vm *vm, int slot, void *log)
{
	if (with_ops)
		split_and_merge();
	kvm_vm_get_dirty_log(vm, slot, log);
}

void seam_clear_log(struct kvm_vm *vm, int slot, void *log, uint64_t first,
		    uint32_t nr)
{
	if (with_ops)
		split_and_merge();
	kvm_vm_clear_dirty_log(vm, slot, log, first, nr);
}

uint32_t seam_reset_rings(struct kvm_vm *vm)
{
	if (with_ops)
		split_and_merge();
	return kvm_vm_reset_dirty_ring(vm);
}

/* It sleeps while its vCPU dirties pages. */
int seam_usleep(useconds_t usec)
{
	int i;

	for (i = 0; with_ops && i < 4; i++) {
		usleep(usec / 4);
		split_and_merge();
	}
	return with_ops ? 0 : usleep(usec);
}

static int run_mode(const char *mode)
{
	char *argv[4] = { NULL };
	int status;
	pid_t pid;

	argv[0] = "dirty_log_test";
	argv[1] = "-M";
	argv[2] = (char *)mode;
	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "cannot fork");
	if (!pid) {
		status = kernel_main(3, argv);
		if (with_ops)
			ksft_print_msg("%lu operations\n", nr_ops);
		TEST_ASSERT(!with_ops || nr_ops > 60, "too few operations");
		exit(status);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "the child is lost");
	return WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL;
}

static bool handles_dirty_logs(void)
{
	const uint64_t wanted = KVM_MEMSLOT_FEATURE_DIRTY_BITMAP |
				KVM_MEMSLOT_FEATURE_DIRTY_RING;
	struct kvm_vm *vm;
	uint64_t features;
	int dev;

	if (!memslot_ops_present() ||
	    !memslot_ops_has(KVM_MEMSLOT_OP_SET_READONLY))
		return false;
	vm = vm_create_barebones();
	dev = memslot_ops_open(vm);
	features = memslot_ops_features(dev);
	close(dev);
	kvm_vm_free(vm);
	return (features & wanted) == wanted;
}

int main(int argc, char *argv[])
{
	static const char * const modes[] = {
		"dirty-log", "clear-log", "dirty-ring",
	};
	unsigned int i;

	ksft_print_header();
	with_ops = argc == 2 && !strcmp(argv[1], "-o");
	if (argc > 1 && !with_ops)
		ksft_exit_fail_msg("see the source for the options\n");
	if (with_ops && !handles_dirty_logs())
		ksft_exit_skip("the module is not there, or handles no dirty logs\n");

	ksft_set_plan(ARRAY_SIZE(modes));
	host_seed();
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		ksft_test_result_code(run_mode(modes[i]), modes[i], NULL);
	ksft_finished();
}
