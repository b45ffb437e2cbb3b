/* SPDX-License-Identifier: MIT */
/*
 * A library for LD_PRELOAD that stands between a VMM and KVM: what such libraries
 * have in common.  They are tools for tests, and no product: a VMM that is meant
 * to use the operations calls libkvm-layout itself.
 */
#ifndef INTERPOSE_H
#define INTERPOSE_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

/* Numbers that a VMM gives its slots are below; most give low ones. */
#define NR_IDS		1024
#define NR_SPACES	2

/* The slots that the VMM believes there are; without memory_size: none. */
extern struct kvm_userspace_memory_region vmm_slots[NR_SPACES][NR_IDS];
/* Its VM, or -1. There is only one. */
extern int vm_fd;
/* "name: " before all that is said. */
extern const char *const interposer;

/* The VMM's ioctl(), which goes on to KVM with this. */
extern int (*next_ioctl)(int fd, unsigned long request, ...);
/* To be defined: what becomes of it. */
int on_ioctl(int fd, unsigned long request, void *arg);

/* To be defined: at start, and when the VMM exits. */
void on_start(void);
void on_exit_of_vmm(void);

/* Notes in vmm_slots what a KVM_SET_USER_MEMORY_REGION asks for. */
void note_region(const struct kvm_userspace_memory_region *region);

/* To standard error. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
/* The number that is in the environment. */
uint64_t number(const char *name, uint64_t otherwise);

#endif /* INTERPOSE_H */
