-- Adds a line to an invoice; gives its rowid. Totals follow from quantity, price, discount and VAT.
INSERT INTO llx_facturedet
    (fk_facture, fk_product, label, description, tva_tx, qty, remise_percent, subprice, product_type, rang,
     total_ht, total_tva, total_ttc)
SELECT %(invoice)s, %(fk_product)s::integer, %(label)s, %(desc)s, tva_tx, qty, discount, subprice,
    %(product_type)s::integer, (SELECT count(*) + 1 FROM llx_facturedet WHERE fk_facture = %(invoice)s),
    ht, tva, ht + tva
FROM (SELECT %(qty)s::numeric AS qty, %(subprice)s::numeric AS subprice, %(tva_tx)s::numeric AS tva_tx,
          %(remise_percent)s::numeric AS discount) AS line
CROSS JOIN LATERAL (SELECT round(qty * subprice * (1 - discount / 100), 2) AS ht) AS net
CROSS JOIN LATERAL (SELECT round(ht * tva_tx / 100, 2) AS tva) AS tax
RETURNING rowid
