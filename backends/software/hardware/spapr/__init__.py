"""What a guest of POWER's hypervisor (pseries, sPAPR) has of PCI.

::

    phb         LogicalPhb      a host bridge: a bus, windows for the processor, DMA windows; no endpoints, no port
    dma         DmaWindows      its tables of TCEs, which are the hypervisor's, and devices' requests
    hypervisor  Hypervisor      the calls: TCEs by H_PUT_TCE, DMA windows and messages by RTAS
    firmware    place_functions the addresses that the partition's firmware (SLOF) gives

As QEMU 10.0 and its SLOF have it.  There is no EEH: no adapter is capable of it.
"""
