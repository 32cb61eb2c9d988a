"""An NVM Express controller.  Formats and numbers are in `pyvfio.nvme`.

::

    registers, doorbells    controller
    the way of a command    engine
    queues in memory        queues     entries fetched and posted, who has room
    data in memory          prp        where the data of a command is
    commands                admin (with settings, reports, events), nvm
    what is stored          storage    memory or a file; `Namespace` makes it blocks

A command ends with `prp.CommandError` or a result; nothing that a driver puts into memory raises anything else.
"""
