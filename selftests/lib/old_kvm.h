/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The names that the linker's --wrap=ioctl and --wrap=close make.
 */
#ifndef SELFTESTS_OLD_KVM_H
#define SELFTESTS_OLD_KVM_H

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __real_close(int fd);
int __wrap_close(int fd);

/* ioctl() on a KVM that may be old. */
int old_kvm_ioctl(int fd, unsigned long request, void *arg);

/* Who gets all calls of ioctl() instead, if anybody does. */
extern int (*old_kvm_hook)(int fd, unsigned long request, void *arg);

#endif
