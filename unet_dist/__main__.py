from unet_dist.cli import main

main()
