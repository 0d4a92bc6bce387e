"""What a few optimizer steps of a model showed: observations and experiments, without any judgement.

`semalign.audit.evidence.gathered.Evidence` is what the rules of `semalign.audit.rules` read.
"""
