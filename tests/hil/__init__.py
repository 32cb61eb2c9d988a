"""Run the contract tests on a real s390x Linux kernel, in a guest of this machine (`make hil`)."""
