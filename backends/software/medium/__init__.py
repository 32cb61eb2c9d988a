"""What lies on disks: sparse images and what other systems would recognise on them."""
