/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Included before the first line of the kernel's own dirty_log_test.c, which is
 * compiled as it is: what it calls under these names comes to dirty_log_test.c here.
 */
#ifndef SELFTESTS_DIRTY_LOG_SEAM_H
#define SELFTESTS_DIRTY_LOG_SEAM_H

#include <unistd.h>

#include "kvm_util.h"

int kernel_main(int argc, char *argv[]);

void seam_add_region(struct kvm_vm *vm, enum vm_mem_backing_src_type src,
		     uint64_t gpa, uint32_t slot, uint64_t nr, uint32_t flags);
void seam_get_log(struct kvm_vm *vm, int slot, void *log);
void seam_clear_log(struct kvm_vm *vm, int slot, void *log, uint64_t first,
		    uint32_t nr);
uint32_t seam_reset_rings(struct kvm_vm *vm);
int seam_usleep(useconds_t usec);

#ifdef THE_KERNELS_TEST
#define main			kernel_main
#define vm_userspace_mem_region_add	seam_add_region
#define kvm_vm_get_dirty_log	seam_get_log
#define kvm_vm_clear_dirty_log	seam_clear_log
#define kvm_vm_reset_dirty_ring	seam_reset_rings
#define usleep			seam_usleep
#endif

#endif
