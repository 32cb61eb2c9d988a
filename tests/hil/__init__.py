"""Run the contract tests on real s390x and x86 Linux kernels, in guests of this machine (`make hil`)."""
