"""What every PCI function has, whatever it is reached through: configuration space, base addresses, MSI-X.

============  ======================================================================================================
`config`      the bytes of configuration space, and what a write does to each bit
`register`    how the bits of one register behave
`header`      the registers of the header, of types 0 and 1
`bar`         what lies behind a base address register
`msix`        the table of messages in a BAR, and sending
============  ======================================================================================================
"""
