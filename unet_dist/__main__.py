"""Where the program begins, before the second that its imports take."""

import sys

from unet_dist.errors import EXIT_INTERRUPTED


def main() -> None:
    try:
        from unet_dist import cli
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    cli.main()


if __name__ == "__main__":
    main()
