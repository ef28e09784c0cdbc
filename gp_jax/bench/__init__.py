"""What parts of this package cost: one file for each that can be asked for, and torch beside them.

step.py, denoise.py, vae.py, pipeline.py      what is run: `gp-jax bench step` and so on
case.py, measure.py                           on which networks and devices; how time, memory and FLOPs are taken
torch_process.py                              the same network in torch, in a process of its own
fixed.py, record.py, drift.py                 outputs of fixed inputs, kept by stage, and how far two of them are apart
paper.py, chips.py                            what a step costs on machines that are not here, without compiling
"""
