"""MuFun as its published code has it: five frames averaged into one, 300 positions for 30 s."""

from dataclasses import replace

from .mufun import PRESET as MUFUN

PRESET = replace(MUFUN, name="mufun_10hz", encoder=replace(MUFUN.encoder, pool=(5, 1)))
