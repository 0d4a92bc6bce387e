"""Add text guidance to a backbone of transformers, train what was added, and take it off again.

pip install 'semalign[hf]'
python examples/guide_a_backbone.py
"""

import torch
import transformers

import semalign
from semalign.model.temperature import projection_hook

torch.manual_seed(0)

# Built from its configuration, so that this runs without a download; yours may come from `from_pretrained`.
backbone = transformers.SegformerModel(
    transformers.SegformerConfig(hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 4])
).eval()
images, text = torch.rand(2, 3, 64, 96), torch.randn(5, 384)  # five sentences for all images, 384 numbers each
before = backbone(images).last_hidden_state

# Gate 0: nothing changes until training opens it.
guided = semalign.add_text_guidance(backbone, text_dim=384, stages=(1, 2, 3), gate_init=0.0, temperature_learnable=True)
at_start = guided(images, text=text).last_hidden_state
print("with gate 0 the features are the same bits:", torch.equal(at_start, before))

# The backbone stays frozen here; the optimizer gets what was added, and bounded temperatures stay inside.
optimizer = torch.optim.AdamW(guided.guidance.parameters(), lr=3e-3, weight_decay=0.0)
optimizer.register_step_post_hook(projection_hook(guided))
target = torch.randn_like(before)
for step in range(20):
    optimizer.zero_grad()
    loss = (guided(images, text=text).last_hidden_state - target).square().mean()
    loss.backward()
    optimizer.step()
    if step == 0:
        first = loss.item()
print("training what was added lowers the loss:", loss.item() < first)

# An image without text has the unguided features, whatever its neighbours have.
is_padding = torch.tensor([[False] * 5, [True] * 5])
mixed = guided(images, text=text.expand(2, -1, -1), is_padding=is_padding).last_hidden_state
print("an image without text is unguided:", torch.equal(mixed[1], before[1]))
print("one with text is guided:", not torch.equal(mixed[0], before[0]))

restored = semalign.remove_text_guidance(guided)
print("removed, the same bits again:", torch.equal(restored(images).last_hidden_state, before))
