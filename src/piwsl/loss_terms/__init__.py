"""Terms of losses beside the errors of the labels: a module a term, whose name is its key.

Points are r + a δ + b δ': A = r, B = r + δ', C = r + δ. Equations of PITC and PISC: Takamoto, Zaverkin, Niepert,
"Physics-Informed Weakly Supervised Learning for Interatomic Potentials", ICML 2025 (arXiv 2408.05215).
"""
