"""A plan for this machine whose weights do not all fit: some stay, the others come with every run.

model     what is cut into parts, and what a process takes without any weight
ways      the same model in each format, cut into the same runs
decide    runs of operators, each way timed both ways, and one Problem: format x residency
mix       the model of the ways that were chosen, its answers measured
fit       solved, built and measured until answers and memory keep the promise
plan      the way in: prediction, refusals
document  plan.json, `formats` what a joint choice changes in it
whole     what a process takes that keeps all weights
"""
