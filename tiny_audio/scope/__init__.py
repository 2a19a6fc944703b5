"""Three rooms: `trace` shows one clip, `plan` tells what training costs, `doctor` how it went."""
