/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The names that the linker's --wrap=ioctl makes.
 */
#ifndef SELFTESTS_OLD_KVM_H
#define SELFTESTS_OLD_KVM_H

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

#endif
