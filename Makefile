# SPDX-License-Identifier: GPL-2.0
# kbuild reads Kbuild instead; this is for people. "make help" says what there is.

KDIR ?= /lib/modules/$(shell uname -r)/build

all: modules

help:
	@echo 'make            build kvm_memslot_ops.ko for the running kernel, or for the one of KDIR=<its build folder>'
	@echo 'make install    install that, as root'
	@echo 'make demo       show what it does, in an emulated machine'
	@echo 'make demo-qemu  show what it does for QEMU, likewise'
	@echo 'make check      run the checks and tests of every day, in emulated machines; the first time builds a kernel'
	@echo 'make check-all  run all there are, on all kernels: hours; with RESUME=y, go on where it was stopped'
	@echo '                these two and the next ones take KERNEL=<name>, to run what that host kernel has a part in:'
	@echo '                newest, 7.2, 6.18, 6.12, 6.1, debug-newest, debug, builtin or kcsan; host/kernel explains them'
	@echo 'make static     of these: compiler, sparse, checkpatch, machine code'
	@echo 'make model      of these: the model of the protocol, explored by spin'
	@echo 'make dkms       of these: DKMS'
	@echo 'make kunit      of these: the unit tests'
	@echo 'make fuzz       whatever calls a fuzzer likes, for MINUTES=10 on each of four kernels; INPUT=<file> runs one'
	@echo '                that it has found'
	@echo 'make vmm        of these: the library for VMMs, and QEMU with it'
	@echo 'make selftests  of these: the tests that run guests'
	@echo 'make nested-linux'
	@echo '                of these: Linux in a VM in a VM'
	@echo 'make qemu       build QEMU 10 so that it uses the library, in the cache'
	@echo 'make check-qemu run Linux in it, with virtio-mem and a migration: half an hour, and no part of the others'
	@echo 'make coverage   say which statements and branches of src/ the tests execute, and which none does: hours;'
	@echo '                with RESUME=y, go on where it was stopped'
	@echo 'make soak       everything at once, at random, in true concurrency, for MINUTES=<n> (10), beside a control without'
	@echo '                operations for as long; takes KERNEL=<name>, too'
	@echo 'make bench      measure operations beside what VMMs do today; takes KERNEL=<name>, too, and hours'
	@echo 'make setup      install what all these need; they do so themselves'
	@echo 'make clean      remove what was built here'

modules clean:
	+$(MAKE) -C $(KDIR) M=$(CURDIR) $@

install: modules
	+$(MAKE) -C $(KDIR) M=$(CURDIR) modules_install

setup:
	host/setup

demo: setup
	host/demo $(KERNEL:%=--kernel %)

demo-qemu: setup
	host/demo-qemu $(KERNEL:%=--kernel %)

qemu: setup
	host/qemu

check-qemu: setup
	host/check-qemu $(KERNEL:%=--kernel %)

fuzz: setup
	host/fuzz $(KERNEL:%=--kernel %) $(MINUTES:%=--minutes %) $(INPUT)

coverage: setup
	host/coverage $(RESUME:%=--resume)

soak: setup
	host/soak $(KERNEL:%=--kernel %) $(MINUTES:%=--minutes %)

bench:
	host/bench $(KERNEL:%=--kernel %)

check:
	host/check $(KERNEL:%=--kernel %)

check-all:
	host/check --all $(RESUME:%=--resume) $(KERNEL:%=--kernel %)

static model dkms kunit vmm selftests nested-linux:
	host/check $(KERNEL:%=--kernel %) $@

.PHONY: all help modules clean install setup demo demo-qemu qemu check-qemu coverage fuzz soak bench check check-all static model dkms kunit vmm selftests nested-linux
